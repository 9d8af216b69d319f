#!/bin/bash
# Network namespaces as hosts of a cluster on one machine, for tests and measurements across a real network stack. Needs root, iproute2 and openmpi-bin.
#
# usage: source it (bash), then
#   hosts_up N [RATE]    namespaces h1 … hN on one bridge, addresses 10.9.0.1 … 10.9.0.N; each link limited to RATE in both directions (such as 1gbit)
#   hosts_mpirun SLOTS ARGUMENTS…   mpirun from h1, with SLOTS processes on each host
#   hosts_link K up|down  plugs host K's cable in or out
#   hosts_bytes K        bytes that host K has sent and received, two numbers
#   hosts_down           removes everything (also on exit)
hosts_prefix=fx$$
hosts_count=0
hosts_ns() { echo "$hosts_prefix-$1"; }

hosts_possible() { # a sentence where not
    [ "$(id -u)" -eq 0 ] || { echo "network namespaces need root"; return 1; }
    command -v ip >/dev/null && command -v tc >/dev/null || { echo "ip and tc (iproute2) are not installed"; return 1; }
    command -v mpirun >/dev/null || { echo "mpirun is not installed"; return 1; }
    ip netns add "$hosts_prefix-try" 2>/dev/null || { echo "this machine makes no network namespaces"; return 1; }
    ip netns del "$hosts_prefix-try"
}

hosts_up() { # N, rate
    local k ns
    hosts_count=$1
    hosts_folder=$(mktemp -d)
    trap hosts_down EXIT
    ip netns add "$(hosts_ns 0)" # the switch
    ip -n "$(hosts_ns 0)" link add br0 type bridge
    ip -n "$(hosts_ns 0)" link set br0 up
    for ((k = 1; k <= hosts_count; k++)); do
        ns=$(hosts_ns $k)
        ip netns add "$ns"
        ip -n "$ns" link add eth0 type veth peer name "port$k" netns "$(hosts_ns 0)"
        ip -n "$(hosts_ns 0)" link set "port$k" master br0 up
        ip -n "$ns" addr add "10.9.0.$k/24" dev eth0
        ip -n "$ns" link set lo up
        ip -n "$ns" link set eth0 up
        [ -z "${2:-}" ] || hosts_limit "$k" "$2"
    done
    printf '#!/bin/bash\nhost=$1\nshift\nexec ip netns exec %s-"${host##*.}" unshare --uts bash -c "hostname h${host##*.}; $*"\n' "$hosts_prefix" >"$hosts_folder/agent"
    chmod +x "$hosts_folder/agent"
}

hosts_limit() { # host, rate, burst, latency
    local shape=(root tbf rate "$2" burst "${3:-128kb}" latency "${4:-50ms}")
    tc -n "$(hosts_ns "$1")" qdisc replace dev eth0 "${shape[@]}"
    tc -n "$(hosts_ns 0)" qdisc replace dev "port$1" "${shape[@]}"
}

hosts_link() { ip -n "$(hosts_ns 0)" link set "port$1" "$2"; }

hosts_bytes() { ip netns exec "$(hosts_ns "$1")" awk '/eth0:/ { print $10, $2 }' /proc/net/dev; }

hosts_mpirun() { # slots, arguments
    local slots=$1 list='' k
    shift
    for ((k = 1; k <= hosts_count; k++)); do list=$list${list:+,}10.9.0.$k:$slots; done
    timeout -k 5 "${HOSTS_SECONDS:-120}" ip netns exec "$(hosts_ns 1)" unshare --uts bash -c 'hostname h1; exec "$@"' sh mpirun -q --allow-run-as-root --oversubscribe --bind-to none -n $((slots * hosts_count)) -H "$list" \
        --mca plm_rsh_agent "$hosts_folder/agent" --mca btl tcp,self --mca btl_tcp_if_include 10.9.0.0/24 \
        --mca oob_tcp_if_include 10.9.0.0/24 --mca mpi_yield_when_idle 1 "$@"
}

hosts_down() {
    local k
    for ((k = hosts_count; k >= 0; k--)); do
        ip netns pids "$(hosts_ns $k)" 2>/dev/null | xargs -r kill -9 2>/dev/null
        ip netns del "$(hosts_ns $k)" 2>/dev/null
    done
    rm -rf "${hosts_folder:-/nonexistent}"
    hosts_count=0
}
