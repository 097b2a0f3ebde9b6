#!/usr/bin/env bash
# Meridian beside nginx's proxy_cache: the same objects, the same core, the same load, in alternation.
#
#   benches/compare.sh [--rounds N] [--seconds S] [--only nginx|meridian] [--before BINARY] [--capacity] [--http2]
#
# --before adds another build of meridian, as `before`: what a change has cost. --capacity adds one that counts requests by
# class of clients, as `counting`: what it costs that regions say what they bear. --http2 asks over HTTP/2 in clear text
# (h2load, 8 connections of 16 streams).
#
# Prints the CPU time per request that each server's processes took, read from /proc before and after each round (all
# threads, user and system), and the ratio of the medians. Requests per second are printed too, but on shared cores
# they say little; CPU time per request is stable. The server has core 0 for itself, the load generator (wrk, 64
# keep-alive connections) and the origin have core 1. Needs nginx and wrk: as root they are installed by apt.
set -euo pipefail

rounds=5 seconds=5 only= before= capacity= http2=
while (($#)); do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --seconds) seconds=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --before) before=$2; shift 2 ;;
        --capacity) capacity=1; shift ;;
        --http2) http2=1; shift ;;
        *) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ && $seconds =~ ^[1-9][0-9]*$ ]] || { echo "rounds and seconds are numbers from 1" >&2; exit 2; }
[[ $only == "" || $only == nginx || $only == meridian ]] || { echo "--only takes nginx or meridian" >&2; exit 2; }
[[ $capacity == "" || $only != nginx ]] || { echo "--capacity is about meridian, and --only leaves it out" >&2; exit 2; }
[[ $before == "" || -x $before ]] || { echo "--before takes a binary: found $before" >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
connections=64
origin_port=18090 nginx_port=18091 meridian_port=18092 before_port=18093 counting_port=18094 dns_port=18095
sizes=(1k 64k)
declare -A bytes=([1k]=1024 [64k]=65536)
declare -A port=([nginx]=$nginx_port [meridian]=$meridian_port [before]=$before_port [counting]=$counting_port)
contestants=(meridian nginx)
[[ -n $only ]] && contestants=("$only")
[[ -n $before ]] && contestants+=(before)
[[ -n $capacity ]] && contestants+=(counting)

say() { echo "$*" >&2; }
fail() { say "compare: $*"; exit 1; }

need() {
    command -v "$1" >/dev/null && return
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "installing $2"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null || fail "cannot install $2 by apt"
    else
        fail "$1 is missing: install the package $2 (Debian: apt install $2)"
    fi
}
need nginx nginx-light
need wrk wrk
[[ -z $http2 ]] || need h2load nghttp2-client
need curl curl
need taskset util-linux
(($(nproc) >= 2)) || fail "two cores are needed: one for the server, one for the load"
for p in $origin_port $nginx_port $meridian_port $before_port $counting_port $dns_port; do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || fail "port $p on 127.0.0.1 is in use"
done

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- what is served, and by whom

mkdir -p "$work/www" "$work/origin" "$work/nginx" "$work/meridian" "$work/before" "$work/counting"
# nginx's workers give up root; they must still find what they serve
chmod 755 "$work"
for size in "${sizes[@]}"; do
    head -c "${bytes[$size]}" /dev/urandom >"$work/www/$size"
done

start_nginx() { # name core
    local listen=$nginx_port
    [[ -z $http2 ]] || listen="$nginx_port http2"
    sed -e "s|@WORK@|$work|g" -e "s|@ORIGIN@|$origin_port|g" -e "s|@PORT@|$listen|g" \
        "$here/nginx/$1.conf" >"$work/$1/nginx.conf"
    taskset -c "$2" nginx -e "$work/$1/error.log" -p "$work/$1" -c "$work/$1/nginx.conf" &
    pids+=($!)
    server_pid=$!
}

start_meridian() { # name binary
    sed -e "s|@WORK@|$work/$1|g" -e "s|@ORIGIN@|$origin_port|g" -e "s|@PORT@|${port[$1]}|g" \
        "$here/meridian.toml" >"$work/$1/meridian.toml"
    [[ $1 != counting ]] || sed "s|@DNS@|$dns_port|g" "$here/counting.toml" >>"$work/$1/meridian.toml"
    taskset -c 0 "$2" run --config "$work/$1" >"$work/$1/log" 2>&1 &
    pids+=($!)
    server_pid=$!
}

if [[ " ${contestants[*]} " == *" meridian "* ]]; then
    say "building meridian"
    (cd "$top" && cargo build --release -q -p meridian) || fail "meridian does not build"
    meridian=$top/target/release/meridian
fi

answers() { # port: waits at most 10 s
    for _ in $(seq 100); do
        curl -s ${2:+--http2-prior-knowledge} -o /dev/null "http://127.0.0.1:$1/1k" && return
        sleep 0.1
    done
    return 1
}

declare -A server
start_nginx origin 1
answers $origin_port || fail "the origin does not start: $(cat "$work/origin/error.log")"
for name in "${contestants[@]}"; do
    case $name in
        nginx) start_nginx nginx 0 ;;
        meridian) start_meridian meridian "$meridian" ;;
        before) start_meridian before "$before" ;;
        counting) start_meridian counting "$meridian" ;;
    esac
    server[$name]=$server_pid
    answers "${port[$name]}" "$http2" || fail "$name does not start: $(tail -n 5 "$work/$name/log" "$work/$name/error.log" 2>/dev/null)"
done

# ---- what is compared is a hit, and the right bytes

check() { # name size
    local url=http://127.0.0.1:${port[$1]}/$2 marks
    for _ in 1 2 3; do curl -s ${http2:+--http2-prior-knowledge} -o "$work/body" -D "$work/head" "$url"; done
    cmp -s "$work/body" "$work/www/$2" || fail "$1 serves other bytes for /$2"
    marks=$(tr -d '\r' <"$work/head" | grep -i '^cache-status:' || true)
    [[ $marks == *hit* || $marks == *HIT* ]] || fail "$1 does not hit for /$2: ${marks:-no Cache-Status}"
}
for name in "${contestants[@]}"; do
    for size in "${sizes[@]}"; do check "$name" "$size"; done
done

# ---- CPU time of a process and its children, in clock ticks: fields 14 and 15 of stat, which count all threads

ticks() { # pid
    local total=0 stat fields
    for stat in /proc/[0-9]*/stat; do
        stat=$(cat "$stat" 2>/dev/null) || continue
        # the second field may hold anything, so count from the last parenthesis: state, parent, ...
        read -ra fields <<<"${stat##*) }"
        if [[ ${stat%% *} == "$1" || ${fields[1]} == "$1" ]]; then
            total=$((total + fields[11] + fields[12]))
        fi
    done
    echo "$total"
}
tick_us=$((1000000 / $(getconf CLK_TCK)))

round() { # name size seconds: prints "cpu_us_per_request requests_per_second"
    local before after out requests
    before=$(ticks "${server[$1]}")
    if [[ -n $http2 ]]; then
        out=$(taskset -c 1 h2load -t 1 -c 8 -m 16 -D "$3" "http://127.0.0.1:${port[$1]}/$2")
        after=$(ticks "${server[$1]}")
        # requests: N total, N started, N done, N succeeded, 0 failed, 0 errored, 0 timeout
        grep -qE '^requests: .* 0 failed, 0 errored, 0 timeout' <<<"$out" || fail "$1, /$2: $(grep '^requests:' <<<"$out")"
        requests=$(sed -n 's/^requests: .* \([0-9]*\) succeeded.*/\1/p' <<<"$out")
    else
        out=$(taskset -c 1 wrk -t 1 -c $connections -d "$3s" "http://127.0.0.1:${port[$1]}/$2")
        after=$(ticks "${server[$1]}")
        if grep -qE 'Non-2xx|Socket errors' <<<"$out"; then fail "$1, /$2: $(grep -E 'Non-2xx|Socket errors' <<<"$out")"; fi
        requests=$(awk '/ requests in /{print $1}' <<<"$out")
    fi
    [[ $requests =~ ^[1-9] ]] || fail "$1, /$2: no requests were counted"
    awk -v ticks=$((after - before)) -v us=$tick_us -v n="$requests" -v s="$3" 'BEGIN{printf "%.3f %.0f\n", ticks*us/n, n/s}'
}

median() { sort -n | awk '{v[NR]=$1} END{print (NR%2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }

say "$rounds rounds of ${seconds}s for each of ${contestants[*]}, ${sizes[*]}; $connections connections"
for name in "${contestants[@]}"; do
    for size in "${sizes[@]}"; do round "$name" "$size" 1 >/dev/null; done
done
for ((r = 1; r <= rounds; r++)); do
    for size in "${sizes[@]}"; do
        for name in "${contestants[@]}"; do
            result=$(round "$name" "$size" "$seconds")
            echo "$result" >>"$work/result.$name.$size"
            say "round $r, $size, $name: ${result% *} us CPU per request, ${result#* } requests/s"
        done
    done
done

printf '\n%-8s %-10s %22s %16s\n' object server "CPU us/request" "requests/s"
for size in "${sizes[@]}"; do
    declare -A cpu=()
    for name in "${contestants[@]}"; do
        cpu[$name]=$(cut -d' ' -f1 "$work/result.$name.$size" | median)
        low=$(cut -d' ' -f1 "$work/result.$name.$size" | sort -n | head -n 1)
        high=$(cut -d' ' -f1 "$work/result.$name.$size" | sort -n | tail -n 1)
        rate=$(cut -d' ' -f2 "$work/result.$name.$size" | median)
        printf '%-8s %-10s %7.2f (%.2f - %.2f) %16.0f\n' "$size" "$name" "${cpu[$name]}" "$low" "$high" "$rate"
    done
    if [[ -n $before && -n ${cpu[meridian]:-} ]]; then
        awk -v b="${cpu[before]}" -v m="${cpu[meridian]}" -v s="$size" \
            'BEGIN{printf "%-8s meridian takes %.3f x the CPU of the build before\n", s, m/b}'
    fi
    if [[ -n $capacity ]]; then
        awk -v c="${cpu[counting]}" -v m="${cpu[meridian]}" -v s="$size" \
            'BEGIN{printf "%-8s counting by class takes %.3f x the CPU of not counting\n", s, c/m}'
    fi
    if [[ -z $only ]]; then
        awk -v n="${cpu[nginx]}" -v m="${cpu[meridian]}" -v s="$size" \
            'BEGIN{printf "%-8s nginx takes %.2f x the CPU of meridian\n", s, n/m}'
    fi
done
