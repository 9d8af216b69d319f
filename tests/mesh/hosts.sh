#!/bin/sh
# Several hosts on one machine: network namespaces that a bridge joins by links of limited speed, with host names of their own. Runs a program as one process on
# each, by mpirun from the first. Needs root and the tools ip, tc and unshare; exit status 77 where something is missing.
# usage: hosts.sh HOSTS RATE PROGRAM [ARGUMENT]…    RATE as tc writes it (1gbit), or "full"
# environment: FLUX1_PLUGINS; MPIRUN_FLAGS; TBF (burst and queue of the limit); DURING: a shell command that runs beside the program; in the namespace
# SWITCH the interfaces host0, host1 … are the other ends of the hosts' links, so that "ip -n $SWITCH link set host1 down" unplugs one
set -eu
[ "$(id -u)" -eq 0 ] || { echo "skipped: network namespaces need root"; exit 77; }
for tool in ip tc unshare mpirun; do
    command -v $tool >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done
hosts=$1 rate=$2
shift 2
name=f$$ dir=$(mktemp -d)
SWITCH=${name}s
export SWITCH
ip netns add $SWITCH 2>/dev/null || { echo "skipped: no network namespaces here"; rm -r "$dir"; exit 77; }
finish() {
    i=0
    while [ $i -lt "$hosts" ]; do
        for pid in $(ip netns pids $name$i 2>/dev/null); do kill -9 "$pid" 2>/dev/null || :; done
        ip netns del $name$i 2>/dev/null || :
        i=$((i + 1))
    done
    ip netns del $SWITCH
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 143' TERM INT
limit() { # namespace, interface
    # shellcheck disable=SC2086
    [ "$rate" = full ] || tc -n "$1" qdisc add dev "$2" root tbf rate "$rate" ${TBF:-burst 64kb latency 50ms}
}
ip -n $SWITCH link add bridge type bridge 2>/dev/null || { echo "skipped: no bridges here"; exit 77; }
ip -n $SWITCH link set bridge up
i=0 list=
while [ $i -lt "$hosts" ]; do
    ip netns add $name$i
    ip -n $name$i link set lo up
    ip link add port netns $name$i type veth peer name host$i netns $SWITCH
    ip -n $SWITCH link set host$i master bridge up
    ip -n $name$i addr add 10.9.0.$((i + 1))/24 dev port
    ip -n $name$i link set port up
    limit $name$i port
    limit $SWITCH host$i
    list=$list${list:+,}10.9.0.$((i + 1))
    i=$((i + 1))
done
# what mpirun takes for ssh: host, then a command line
cat >"$dir/agent" <<END
#!/bin/sh
host=\${1##*.}
shift
exec ip netns exec $name\$((host - 1)) unshare -u sh -c "hostname host\$((host - 1)); \$*"
END
chmod +x "$dir/agent"
during=
if [ -n "${DURING:-}" ]; then
    sh -c "$DURING" &
    during=$!
fi
code=0
# shellcheck disable=SC2086
ip netns exec ${name}0 unshare -u sh -c 'hostname host0; exec "$@"' - mpirun --allow-run-as-root --bind-to none -H "$list" -x FLUX1_PLUGINS \
    --mca plm_rsh_agent "$dir/agent" --mca btl tcp,self --mca btl_tcp_if_include 10.9.0.0/24 --mca oob_tcp_if_include 10.9.0.0/24 \
    --mca mpi_yield_when_idle 1 ${MPIRUN_FLAGS:-} "$@" &
wait $! || code=$? # in the background, so that a signal ends this script: mpirun may wait for ever for a host that is gone
[ -z "$during" ] || kill $during 2>/dev/null || :
exit $code
