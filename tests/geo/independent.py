#!/usr/bin/env python3
"""Whether a node's answers are those of an independent computation: Python's maxminddb, and haversine.

    independent.py --database FILE --server ADDRESS:PORT --name HOST --regions FILE
                   [--centroids FILE] [--prefixes 3000] [--seed 1] [--least 99.8]

For many prefixes it asks the node's DNS with a client subnet (RFC 7871), and works out the nearest region from the
database itself. `--regions` is JSON: {"name": {"latitude": .., "longitude": .., "addresses": [".."]}}. Without
`--prefixes`, every network of the database is asked for.

A difference has to have one of two reasons, or the run fails:

- quantisation: a node rounds coordinates to quarters of a degree, so two regions may be told apart wrongly if the client
  is about as far from the one as from the other;
- mixed cell: a node answers for a /24 (a /56) as a whole, by where most of it is; the prefix has several places in it.

Prints one line of JSON; exits with 1 if too many answers differ, or one without a reason.
"""

import argparse
import ipaddress
import json
import math
import random
import socket
import struct
import sys
from collections import Counter

import maxminddb

EARTH_KM = 6371.0
# an eighth of a degree in both directions, for the way to each of two regions, and a kilometre of rounding for each
QUANTISATION_KM = 2 * (math.hypot(0.125, 0.125) * math.pi / 180 * EARTH_KM + 1)
CELLS = {4: 24, 6: 56}


def haversine_km(a, b):
    (north_a, east_a), (north_b, east_b) = (tuple(map(math.radians, point)) for point in (a, b))
    h = (
        math.sin((north_b - north_a) / 2) ** 2
        + math.cos(north_a) * math.cos(north_b) * math.sin((east_b - east_a) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(h)))


def place(record, centroids):
    """Where a record says that its network is: its coordinates, or the middle of its country."""
    if not isinstance(record, dict):
        return None
    location = record.get("location") or record
    north, east = location.get("latitude"), location.get("longitude")
    if north is not None and east is not None and (north, east) != (0.0, 0.0):
        return (north, east)
    country = record.get("country")
    code = country.get("iso_code") if isinstance(country, dict) else country or record.get("country_code")
    return centroids.get((code or "").upper())


def places_in(database, cell, centroids):
    """The places in a cell, each with how many of its addresses are there."""
    shares = Counter()
    at, last = int(cell[0]), int(cell[-1])
    kind = type(cell[0])
    while at <= last:
        record, length = database.get_with_prefix_len(kind(at))
        network = ipaddress.ip_network((kind(at), min(length, cell.max_prefixlen)), strict=False)
        end = min(int(network[-1]), last)
        shares[place(record, centroids)] += end - at + 1
        at = end + 1
    return shares


def question(number, name, cell):
    """A query for A with a client subnet."""
    packed = cell.network_address.packed[: (cell.prefixlen + 7) // 8]
    option = struct.pack("!HHHBB", 8, 4 + len(packed), 1 if cell.version == 4 else 2, cell.prefixlen, 0) + packed
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    head = struct.pack("!HHHHHH", number, 0, 1, 0, 0, 1)
    return head + labels + b"\0" + struct.pack("!HH", 1, 1) + b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(option)) + option


def skip_name(message, at):
    while message[at] != 0:
        if message[at] >= 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def addresses(message):
    """The addresses of an answer, or None if it is none."""
    _, flags, questions, answers, _, _ = struct.unpack("!HHHHHH", message[:12])
    if flags & 15:
        return None
    at = 12
    for _ in range(questions):
        at = skip_name(message, at) + 4
    found = []
    for _ in range(answers):
        at = skip_name(message, at)
        kind, _, _, length = struct.unpack("!HHIH", message[at : at + 10])
        if kind == 1:
            found.append(socket.inet_ntoa(message[at + 10 : at + 10 + length]))
        at += 10 + length
    return found


def ask(sock, number, name, cell):
    for _ in range(3):
        sock.send(question(number, name, cell))
        try:
            while True:
                message = sock.recv(4096)
                if struct.unpack("!H", message[:2])[0] == number:
                    return addresses(message)
        except socket.timeout:
            continue
    return None


def chosen(database, order):
    """Cells to ask for: at random among all addresses of hosts, or one of every network."""
    chance = random.Random(order.seed)
    if order.prefixes:
        while True:
            yield ipaddress.ip_network((chance.randrange(1 << 24, 224 << 24) & 0xFFFFFF00, 24))
    for network, _ in database:
        address = network[chance.randrange(min(network.num_addresses, 1 << 62))]
        yield ipaddress.ip_network((address, CELLS[network.version]), strict=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--regions", required=True)
    parser.add_argument("--centroids")
    parser.add_argument("--prefixes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=float, default=99.8)
    order = parser.parse_args()

    centroids = {}
    if order.centroids:
        for line in open(order.centroids, encoding="utf-8"):
            words = line.split()
            if len(words) == 3 and len(words[0]) == 2:
                centroids[words[0]] = (float(words[1]), float(words[2]))
    with open(order.regions, encoding="utf-8") as file:
        regions = json.load(file)
    region_of = {address: name for name, region in regions.items() for address in region["addresses"]}
    host, port = order.server.rsplit(":", 1)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((host, int(port)))
    sock.settimeout(2.0)

    def distances(point):
        return {name: haversine_km(point, (it["latitude"], it["longitude"])) for name, it in regions.items()}

    counts, unexplained = Counter(), []
    database = maxminddb.open_database(order.database, maxminddb.MODE_MEMORY)
    seen = set()
    for cell in chosen(database, order):
        if cell in seen or (cell.version == 6 and cell.network_address in ipaddress.ip_network("::/3")):
            continue
        seen.add(cell)
        shares = places_in(database, cell, centroids)
        point, _ = shares.most_common(1)[0]
        if point is None:
            counts["unknown"] += 1
            continue
        counts["compared"] += 1
        far = distances(point)
        nearest = min(far, key=far.get)
        answer = ask(sock, counts["compared"] & 0xFFFF, order.name, cell)
        found = {region_of.get(address) for address in answer or []}
        if found == {nearest}:
            counts["same"] += 1
        elif len(found) == 1 and None not in found and far[next(iter(found))] - far[nearest] <= QUANTISATION_KM:
            counts["quantisation"] += 1
        elif len(shares) > 1 and len(found) == 1 and found <= {min(d, key=d.get) for d in map(distances, filter(None, shares))}:
            counts["mixed cell"] += 1
        else:
            unexplained.append(f"{cell}: {point}: nearest {nearest}, found {sorted(map(str, found))}")
        if order.prefixes and counts["compared"] >= order.prefixes:
            break

    agreed = 100.0 * counts["same"] / max(counts["compared"], 1)
    print(json.dumps({**counts, "percent": round(agreed, 3), "unexplained": unexplained[:20]}))
    return 0 if counts["compared"] and agreed >= order.least and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
