#!/bin/sh
# A leaf's routing: GoBGP, and what every switch has that GoBGP has not: a session ends with its link, not three seconds
# later with its hold time. Usage: leaf.sh GOBGPD.TOML INTERFACE=NEIGHBOR...

config=$1
shift

follow_links() {
  ip -o monitor link | while read -r line; do
    for pair in "$@"; do
      case $line in
        *": ${pair%%=*}"[@:]*"state DOWN"*) gobgp neighbor "${pair#*=}" disable ;;
        *": ${pair%%=*}"[@:]*"state UP"*) gobgp neighbor "${pair#*=}" enable ;;
      esac
    done
  done
}

follow_links "$@" &
exec gobgpd -t toml -f "$config" --api-hosts 127.0.0.1:50051 --pprof-disable -p
