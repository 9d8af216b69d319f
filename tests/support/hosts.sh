#!/bin/bash
# Hosts made of network namespaces on one machine, for tests and measurements across a real network stack: on one bridge, by links of limited speed, with host
# names h1, h2 … and addresses 10.9.0.1, 10.9.0.2 … of their own. Needs root, ip, tc, unshare and mpirun.
#
# usage, sourced by bash:
#   hosts_possible         a sentence, and false, where there can be none
#   hosts_up N [RATE]      makes N; RATE as tc writes it, such as 1gbit
#   hosts_limit K RATE [BURST [LATENCY]]   of host K's link, in both directions
#   hosts_link K up|down   plugs host K's cable in or out
#   hosts_bytes K          bytes that host K has sent and received, two numbers
#   hosts_on K COMMAND…    on host K, with what mpirun needs to know there in its environment; HOSTS_AGENT: what it takes for ssh, if not ours
#   hosts_mpirun SLOTS ARGUMENTS…   mpirun from h1 with SLOTS processes on each host, for HOSTS_SECONDS (120) at most
#   hosts_file SLOTS       the path of a hostfile
#   hosts_pids K [PROGRAM] what runs on host K
#   hosts_kill K           kills all of that
#   hosts_down             removes everything
# usage, as a program: hosts.sh HOSTS RATE|full PROGRAM [ARGUMENT]…    one process on each; exit status 77 where there can be none
hosts_prefix=fx$$
hosts_count=0
hosts_folder=/nonexistent
hosts_ns() { echo "$hosts_prefix-$1"; }

hosts_possible() {
    local tool
    [ "$(id -u)" -eq 0 ] || { echo "network namespaces need root"; return 1; }
    for tool in ip tc unshare mpirun; do
        command -v $tool >/dev/null || { echo "there is no $tool"; return 1; }
    done
    ip netns add "$hosts_prefix-try" 2>/dev/null || { echo "this machine makes no network namespaces"; return 1; }
    ip -n "$hosts_prefix-try" link add try type bridge 2>/dev/null
    local made=$?
    ip netns del "$hosts_prefix-try"
    [ $made -eq 0 ] || { echo "this machine makes no bridges"; return 1; }
}

hosts_up() {
    local k ns switch
    switch=$(hosts_ns 0)
    hosts_count=$1
    hosts_folder=$(mktemp -d)
    ip netns add "$switch"
    ip -n "$switch" link add br0 type bridge
    ip -n "$switch" link set br0 up
    for ((k = 1; k <= hosts_count; k++)); do
        ns=$(hosts_ns $k)
        ip netns add "$ns"
        ip -n "$ns" link add eth0 type veth peer name "port$k" netns "$switch"
        ip -n "$switch" link set "port$k" master br0 up
        ip -n "$ns" addr add "10.9.0.$k/24" dev eth0
        ip -n "$ns" link set lo up
        ip -n "$ns" link set eth0 up
        [ -z "${2:-}" ] || hosts_limit "$k" "$2"
    done
    # what mpirun takes for ssh: a host, then a command line. As ssh does, it waits long for a host that is silent
    cat >"$hosts_folder/agent" <<END
#!/bin/bash
k=\${1##*.}
shift
case \$(ip -n $switch link show port\$k) in *,UP*) ;; *) exec sleep 300 ;; esac
exec ip netns exec $hosts_prefix-\$k unshare --uts bash -c "hostname h\$k; \$*"
END
    chmod +x "$hosts_folder/agent"
}

hosts_limit() {
    local shape=(root tbf rate "$2" burst "${3:-128kb}" latency "${4:-50ms}")
    tc -n "$(hosts_ns "$1")" qdisc replace dev eth0 "${shape[@]}"
    tc -n "$(hosts_ns 0)" qdisc replace dev "port$1" "${shape[@]}"
}

hosts_link() { ip -n "$(hosts_ns 0)" link set "port$1" "$2"; }

hosts_bytes() { ip netns exec "$(hosts_ns "$1")" awk '/eth0:/ { print $10, $2 }' /proc/net/dev; }

hosts_on() {
    local k=$1
    shift
    OMPI_MCA_plm_rsh_agent=${HOSTS_AGENT:-$hosts_folder/agent} OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=10.9.0.0/24 \
        OMPI_MCA_oob_tcp_if_include=10.9.0.0/24 OMPI_MCA_mpi_yield_when_idle=1 \
        ip netns exec "$(hosts_ns "$k")" unshare --uts sh -c 'hostname "$1"; shift; exec "$@"' sh "h$k" "$@"
}

# mpirun may wait for ever for a host that is gone.
hosts_mpirun() {
    local slots=$1
    shift
    hosts_on 1 timeout -k 5 "${HOSTS_SECONDS:-120}" mpirun -q --allow-run-as-root --oversubscribe --bind-to none -n $((slots * hosts_count)) \
        --hostfile "$(hosts_file "$slots")" "$@"
}

hosts_file() {
    local k
    for ((k = 1; k <= hosts_count; k++)); do echo "10.9.0.$k slots=$1"; done >"$hosts_folder/slots.$1"
    echo "$hosts_folder/slots.$1"
}

hosts_pids() {
    local pid
    for pid in $(ip netns pids "$(hosts_ns "$1")" 2>/dev/null); do
        [ -n "${2:-}" ] && [ "$(readlink "/proc/$pid/exe")" != "$2" ] || echo "$pid"
    done
}

hosts_kill() { hosts_pids "$1" | xargs -r kill -9 2>/dev/null; }

hosts_down() {
    local k
    for ((k = hosts_count; k >= 0; k--)); do
        hosts_kill $k
        ip netns del "$(hosts_ns $k)" 2>/dev/null
    done
    rm -rf "$hosts_folder"
    hosts_count=0
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    why=$(hosts_possible) || { echo "skipped: $why"; exit 77; }
    trap hosts_down EXIT
    trap 'exit 143' TERM INT
    hosts_up "$1" "${2#full}"
    shift 2
    hosts_mpirun 1 "$@" &
    wait $! # so that a signal ends this script
fi
