#!/usr/bin/env python3
"""Messages as they should not be, to a name server as a black box, and to gdnsd and Knot beside it.

    malformed.py --server ADDRESS:PORT [--name HOST] [--table]
    malformed.py --server ADDRESS:PORT --peers gdnsd,knot      starts those that are installed, and compares

Every case says what is sent, which RFC speaks of it, and what has to come back. HOST has an address; its parent is a
zone of the server. Behind each message over UDP a proper query is sent: if only that one is answered, the message was
dropped; if it is not, the server is gone. Where gdnsd answers otherwise, the case says why that is no better.

What came back is told in words: an RCODE or `drop` (nothing) or `close` (TCP, without an answer); then the flags that
are set, `opt` if there is EDNS, `an=` how many answers there are, `scope=` of a client subnet, `ede=` of an extended
error, `cookie`, `nsid`. What is expected lists the words that must be there, `!word` those that must not; `|` between
two expectations takes either.

Prints a table with --table, else what is wrong; exits with 1 if the server's answers are not those that are expected.
"""

import argparse
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

A, NS, SOA, AAAA, OPT, ANY = 1, 2, 6, 28, 41, 255
ECS, COOKIE, NSID, KEEPALIVE, PADDING, EXPIRE, EDE = 8, 10, 3, 11, 12, 9, 15
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS", 23: "BADCOOKIE"}
FLAGS = {0x400: "aa", 0x200: "tc", 0x100: "rd", 0x80: "ra", 0x40: "z", 0x20: "ad", 0x10: "cd"}
ID, SENTINEL = 0x4D65, 0x7A7A
# longer than any server here waits for the rest of a message over TCP that has begun
PATIENCE_S = 8.0


def head(flags=0x0100, qd=1, an=0, ns=0, ar=0, number=ID):
    return struct.pack("!HHHHHH", number, flags, qd, an, ns, ar)


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def ask(name, rtype=A, rclass=1):
    return (name if isinstance(name, bytes) else wire(name)) + struct.pack("!HH", rtype, rclass)


def option(code, data=b""):
    return struct.pack("!HH", code, len(data)) + data


def opt(*options, size=1232, extended=0, version=0, flags=0, owner=b"\0", length=None):
    data = b"".join(options)
    return owner + struct.pack("!HHBBHH", OPT, size, extended, version, flags, len(data) if length is None else length) + data


def subnet(family, source, scope, octets):
    return option(ECS, struct.pack("!HBB", family, source, scope) + bytes(octets))


def record(owner=b"\0", rtype=A, rclass=1, data=b"\xc0\0\2\1"):
    return owner + struct.pack("!HHIH", rtype, rclass, 0, len(data)) + data


# why gdnsd's answer is no better than ours, where several cases have the same reason
ELSEWHERE = "no query has records there: gdnsd does not look at them"
SPLICED = "what nobody announced was spliced in or cut out; Knot says so too"
CHAOS = "which program this is, or under what name, is nobody's business"
IDLE = "who stops in the middle of a message is waited for 3 s here, longer there"


class Case:
    """`expected` is of the server under test; `gdnsd` says why another answer of gdnsd's is no better."""

    def __init__(self, name, rfc, message, expected, gdnsd="", tcp=False):
        self.name, self.rfc, self.message, self.expected, self.gdnsd, self.tcp = name, rfc, message, expected, gdnsd, tcp


def cases(host):
    parent = host.split(".", 1)[1]
    query = lambda *rest, ar=None, **more: head(ar=len(rest) if ar is None else ar, **more) + ask(host) + b"".join(rest)
    named = lambda name, **more: head(**more) + ask(name)
    typed = lambda rtype, rclass=1, name=host: head(ar=1) + ask(name, rtype, rclass) + opt()
    edns = lambda *options, **more: query(opt(*options, **more))
    flagged = lambda flags: query(opt(), flags=flags)
    under = wire(parent)
    long_name = lambda octets: b"".join(b"\x3f" + b"a" * 63 for _ in range(2)) + under_padded(octets - 128, under)
    udp = [
        # messages that are none
        ("an empty datagram", "1035 4.1.1", b"", "drop"),
        ("one octet", "1035 4.1.1", b"\x4d", "drop"),
        ("eleven octets", "1035 4.1.1", head()[:11], "drop"),
        ("a header and nothing", "9619 4", head(qd=0), "FORMERR !opt"),
        ("a header that announces a question", "1035 4.1.2", head(), "FORMERR !opt"),
        ("nothing but ones", "1035 4.1.1", b"\xff" * 64, "drop"),
        ("1,232 zeros", "9619 4", bytes(1232), "FORMERR"),
        ("an answer (QR)", "1035 4.1.1", flagged(0x8100), "drop"),
        ("an answer that is refused", "1035 4.1.1", flagged(0x8105), "drop"),
        ("an answer of another opcode", "1035 4.1.1", flagged(0xA800), "drop"),
        # opcodes
        ("opcode IQUERY", "3425 3", flagged(0x0900), "NOTIMP opt"),
        ("opcode STATUS", "1035 4.1.1", flagged(0x1100), "NOTIMP opt"),
        ("opcode 3", "1035 4.1.1", flagged(0x1900), "NOTIMP opt"),
        ("opcode NOTIFY", "1996 3.10", head(0x2000) + ask(parent, SOA), "NOTIMP"),
        ("opcode UPDATE", "2136 3.1", head(0x2800) + ask(parent, SOA), "NOTIMP|REFUSED"),
        ("opcode DSO", "8490 5.1", head(0x3000, qd=0), "NOTIMP", "a server without DSO says NOTIMP"),
        ("opcode 15", "1035 4.1.1", flagged(0x7900), "NOTIMP opt"),
        ("another opcode and rubbish", "1035 4.1.1", head(0x7900, 7, 7, 7, 7) + b"\xff" * 40, "NOTIMP",
         "what stands in a message of an unknown opcode cannot be judged"),
        # flags of a proper query
        ("no flags", "1035 4.1.1", flagged(0), "NOERROR opt an=1 aa !rd !ra"),
        ("RD comes back, RA does not come", "1035 4.1.1", flagged(0x0100), "NOERROR rd !ra"),
        ("AA in a query", "1035 4.1.1", flagged(0x0500), "NOERROR aa an=1"),
        ("TC in a query", "1035 4.1.1", flagged(0x0300), "NOERROR !tc an=1|FORMERR"),
        ("RA in a query", "1035 4.1.1", flagged(0x0180), "NOERROR !ra an=1"),
        ("Z in a query", "1035 4.1.1", flagged(0x0140), "NOERROR !z an=1"),
        ("AD in a query", "6840 5.7", flagged(0x0120), "NOERROR !ad an=1"),
        ("CD in a query", "4035 3.1.6", flagged(0x0110), "NOERROR an=1"),
        ("an RCODE in a query", "1035 4.1.1", flagged(0x010F), "NOERROR an=1"),
        # counts
        ("two questions", "9619 4", head(qd=2) + ask(host) + ask(host, AAAA), "FORMERR an=0"),
        ("65,535 questions and one there", "9619 4", head(qd=65535) + ask(host), "FORMERR"),
        ("two questions announced, one there", "9619 4", head(qd=2) + ask(host), "FORMERR"),
        ("no question, and EDNS", "9619 4", head(qd=0, ar=1) + opt(), "FORMERR opt"),
        ("a record as an answer", "1035 4.1.1", head(an=1) + ask(host) + record(), "FORMERR", ELSEWHERE),
        ("a record as authority", "1035 4.1.1", head(ns=1) + ask(host) + record(), "FORMERR", ELSEWHERE),
        ("an answer announced, and not there", "1035 4.1.1", head(an=1) + ask(host), "FORMERR"),
        ("an additional record announced, and not there", "1035 4.1.1", query(ar=1), "FORMERR !opt"),
        ("65,535 additional records and one there", "1035 4.1.1", query(opt(), ar=65535), "FORMERR opt"),
        ("a record that is no OPT", "1035 4.1.1", query(record()), "NOERROR !opt an=1|FORMERR"),
        ("a record, then OPT", "6891 6.1.1", query(record(), opt()), "NOERROR opt an=1|FORMERR"),
        ("a record cut in its type", "1035 4.1.3", query(record()[:3], ar=1), "FORMERR"),
        ("a record with more octets than there are", "1035 4.1.3", query(record()[:-2], ar=1), "FORMERR"),
        ("octets behind a question", "1035 4.1", query() + b"\0", "FORMERR", SPLICED),
        ("octets behind OPT", "1035 4.1", query(opt()) + b"junk", "FORMERR", SPLICED),
        ("as many octets as fit behind OPT", "1035 4.1", (query(opt()) + b"\0" * 1232)[:1232], "FORMERR", SPLICED),
        # questions
        ("a question cut in its name", "1035 4.1.2", (head() + ask(host))[:15], "FORMERR"),
        ("a question without a type", "1035 4.1.2", head() + wire(host), "FORMERR"),
        ("a question cut in its class", "1035 4.1.2", (head() + ask(host))[:-1], "FORMERR"),
        ("a name without an end", "1035 3.1", head() + wire(host)[:-1], "FORMERR"),
        ("a label of 0x40 octets", "6891 5", head() + b"\x40" + ask(host), "FORMERR"),
        ("a label of 0x80 octets", "1035 4.1.4", head() + b"\x80" + ask(host), "FORMERR"),
        ("a bit-string label", "6891 5", head() + b"\x41\x08\xff" + ask(host), "FORMERR"),
        ("a label that goes beyond the end", "1035 3.1", head() + b"\x3f" + ask(host), "FORMERR"),
        ("a name that points at itself", "1035 4.1.4", head() + ask(b"\xc0\x0c"), "FORMERR"),
        ("two pointers that point at each other", "1035 4.1.4", head() + ask(b"\xc0\x0e\xc0\x0c"), "FORMERR"),
        ("a label and a pointer to its start", "1035 4.1.4", head() + ask(b"\x01a\xc0\x0c"), "FORMERR"),
        ("a pointer into the header", "1035 4.1.4", head() + ask(b"\xc0\x00"), "FORMERR"),
        ("a pointer behind the end", "1035 4.1.4", head() + ask(b"\xff\xff"), "FORMERR"),
        ("a pointer ahead, to a name", "1035 4.1.4", head(ar=1) + ask(b"\xc0\x12") + opt(owner=wire(host)), "FORMERR"),
        ("half a pointer", "1035 4.1.4", head() + b"\xc0", "FORMERR"),
        ("a name of 255 octets", "1035 2.3.4", head() + ask(long_name(255)), "NXDOMAIN"),
        ("a name of 256 octets", "1035 2.3.4", head() + ask(long_name(256)), "FORMERR"),
        ("a name of 128 labels", "1035 2.3.4", head() + ask(b"\1a" * 128 + b"\0"), "FORMERR"),
        ("a name of 127 labels", "1035 2.3.4", head() + ask(b"\1a" * ((254 - len(under)) // 2) + under), "NXDOMAIN"),
        ("the root", "1035 3.1", named(b"\0"), "REFUSED"),
        ("a name of another zone", "1035 4.1.1", named("example.org"), "REFUSED !aa"),
        ("a label with an octet 0", "2181 11", named(b"\3a\0b" + under), "NXDOMAIN"),
        ("a label with a dot in it", "2181 11", named(b"\3a.b" + under), "NXDOMAIN"),
        ("a host's name as one label", "2181 11", named(bytes([len(host)]) + host.encode() + b"\0"), "REFUSED"),
        ("a label of 0xff", "2181 11", named(b"\3\xff\xfe\xfd" + under), "NXDOMAIN"),
        ("capital letters", "4343 3", named(host.swapcase()), "NOERROR an=1 same-case"),
        # classes and types
        ("class CH", "1035 3.2.4", typed(A, 3), "REFUSED opt", CHAOS),
        ("class CH, version.bind", "4892 1", head(ar=1) + ask("version.bind", 16, 3) + opt(), "REFUSED an=0", CHAOS),
        ("class HS", "1035 3.2.4", typed(A, 4), "REFUSED"),
        ("class NONE", "2136 2.4", typed(A, 254), "REFUSED|FORMERR"),
        ("class ANY", "1035 3.2.5", typed(A, 255), "REFUSED",
         "gdnsd answers as if IN had been asked for: an answer of another class than the question's is none"),
        ("class 0", "6895 3.2", typed(A, 0), "REFUSED"),
        ("class 65,535", "6895 3.2", typed(A, 65535), "REFUSED"),
        ("type 0", "6895 3.1", typed(0), "NOERROR an=0|FORMERR"),
        ("type OPT", "6891 6.1.1", typed(OPT), "FORMERR|NOERROR an=0"),
        ("type TSIG", "8945 5.1", typed(250), "FORMERR|NOTIMP"),
        ("type TKEY", "2930 4", typed(249), "FORMERR|NOTIMP|REFUSED"),
        ("type NXNAME", "9824 3.5", typed(128), "FORMERR", "the RFC wants FORMERR"),
        ("type ANY", "8482 4.2", typed(ANY), "NOERROR an=1"),
        ("type MAILB", "1035 3.2.3", typed(253), "REFUSED|NOTIMP"),
        ("type 65,280", "3597 3", typed(65280), "NOERROR an=0 aa"),
        ("a zone transfer over UDP", "5936 4.2", typed(252, name=parent), "REFUSED|NOTIMP|FORMERR"),
        ("an incremental one", "1995 2", typed(251, name=parent), "REFUSED|NOTIMP"),
        ("an incremental one with its SOA", "1995 3", head(ns=1) + ask(parent, 251) + record(wire(parent), SOA, data=b"\0\0" + bytes(20)), "REFUSED|NOTIMP"),
        # EDNS
        ("EDNS version 1", "6891 6.1.3", edns(version=1), "BADVERS opt an=0"),
        ("EDNS version 255", "6891 6.1.3", edns(version=255), "BADVERS opt an=0"),
        ("another version, and options that are none", "6891 6.1.3", edns(b"\xff" * 7, version=2), "BADVERS opt"),
        ("two OPT", "6891 6.1.1", query(opt(), opt()), "FORMERR opt"),
        ("three OPT", "6891 6.1.1", query(opt(), opt(), opt()), "FORMERR"),
        ("OPT as an answer", "6891 6.1.1", head(an=1) + ask(host) + opt(), "FORMERR", ELSEWHERE),
        ("OPT as authority", "6891 6.1.1", head(ns=1) + ask(host) + opt(), "FORMERR", ELSEWHERE),
        ("OPT under a name", "6891 6.1.2", query(opt(owner=b"\1a\0")), "FORMERR opt", "OPT has to stand under the root; gdnsd takes it for none"),
        ("OPT with more octets than there are", "6891 6.1.2", query(opt(length=4)), "FORMERR"),
        ("OPT with fewer octets than there are", "6891 6.1.2", query(opt(option(65001, b"ab"), length=4)), "FORMERR"),
        ("half an option's head", "6891 6.1.2", edns(b"\0\x08"), "FORMERR opt"),
        ("an option longer than OPT", "6891 6.1.2", edns(struct.pack("!HH", 65001, 9) + b"ab"), "FORMERR opt"),
        ("an option of 65,535 octets", "6891 6.1.2", edns(struct.pack("!HH", ECS, 65535)), "FORMERR opt"),
        ("an unknown option", "6891 6.1.2", edns(option(65001, b"abc")), "NOERROR opt an=1"),
        ("200 empty unknown options", "6891 6.1.2", edns(*[option(65001)] * 200), "NOERROR opt an=1"),
        ("a UDP size of 0", "6891 6.2.3", edns(size=0), "NOERROR opt an=1"),
        ("a UDP size of 65,535", "6891 6.2.3", edns(size=65535), "NOERROR opt an=1"),
        ("an upper RCODE in a query", "6891 6.1.3", edns(extended=255), "NOERROR opt an=1"),
        ("all EDNS flags", "6891 6.1.4", edns(flags=0xFFFF), "NOERROR opt an=1"),
        ("NSID with octets in it", "5001 2.1", edns(option(NSID, b"abc")), "NOERROR opt an=1",
         "RFC 5001 wants the octets ignored"),
        ("keepalive over UDP", "7828 3.2.1", edns(option(KEEPALIVE)), "NOERROR opt an=1 !keepalive"),
        ("padding that is not 0", "7830 3", edns(option(PADDING, b"\xff" * 64)), "NOERROR opt an=1"),
        ("EXPIRE for a host", "7314 3.1", edns(option(EXPIRE)), "NOERROR opt an=1"),
        ("an extended error in a query", "8914 2", edns(option(EDE, b"\0\0x")), "NOERROR opt an=1"),
        # cookies
        ("a cookie", "7873 5.2.3", edns(option(COOKIE, b"c" * 8)), "NOERROR opt an=1 cookie"),
        ("a cookie of somebody else", "7873 5.2.4", edns(option(COOKIE, b"c" * 24)), "NOERROR an=1 cookie|BADCOOKIE"),
        *[(f"a cookie of {n} octets", "7873 5.2.2", edns(option(COOKIE, b"c" * n)), "FORMERR opt") for n in (0, 1, 7, 9, 15, 41)],
        ("two cookies", "7873 5.2", edns(option(COOKIE, b"c" * 8), option(COOKIE, b"d" * 8)), "NOERROR an=1 cookie"),
        ("a cookie and no question", "7873 5.4", head(qd=0, ar=1) + opt(option(COOKIE, b"c" * 8)), "NOERROR opt an=0 cookie",
         "gdnsd calls it FORMERR: RFC 7873 section 5.4 wants a cookie"),
        # client subnets
        ("a subnet", "7871 7.2.1", edns(subnet(1, 24, 0, [192, 0, 2])), "NOERROR an=1 scope"),
        ("SOURCE 0", "7871 7.1.2", edns(subnet(1, 0, 0, [])), "NOERROR an=1 scope=0"),
        ("SOURCE 0 of IPv6", "7871 7.1.2", edns(subnet(2, 0, 0, [])), "NOERROR an=1 scope=0"),
        ("a subnet of a bit", "7871 6", edns(subnet(1, 1, 0, [128])), "NOERROR an=1 scope"),
        ("a subnet of a whole IPv6 address", "7871 6", edns(subnet(2, 128, 0, [32, 1, 13, 184] + [0] * 12)), "NOERROR an=1 scope"),
        ("an empty subnet", "7871 6", edns(option(ECS)), "FORMERR opt"),
        ("a subnet of 3 octets", "7871 6", edns(option(ECS, b"\0\1\x18")), "FORMERR opt"),
        ("a subnet cut short", "7871 6", edns(subnet(1, 24, 0, [192, 0])), "FORMERR opt"),
        ("a subnet with octets to spare", "7871 6", edns(subnet(1, 24, 0, [192, 0, 2, 0])), "FORMERR opt"),
        ("SOURCE 0 with an octet", "7871 6", edns(subnet(1, 0, 0, [0])), "FORMERR opt"),
        ("bits behind SOURCE", "7871 6", edns(subnet(1, 23, 0, [192, 0, 3])), "FORMERR opt"),
        ("bits behind SOURCE of IPv6", "7871 6", edns(subnet(2, 33, 0, [32, 1, 13, 184, 127])), "FORMERR opt"),
        ("SCOPE in a query", "7871 6", edns(subnet(1, 24, 24, [192, 0, 2])), "FORMERR opt"),
        ("SOURCE 33", "7871 6", edns(subnet(1, 33, 0, [192, 0, 2, 1, 0])), "FORMERR opt"),
        ("SOURCE 129", "7871 6", edns(subnet(2, 129, 0, [0] * 17)), "FORMERR opt"),
        ("SOURCE 255", "7871 6", edns(subnet(1, 255, 0, [0] * 32)), "FORMERR opt"),
        ("an unknown family", "7871 7.1.2", edns(subnet(3, 8, 0, [1])), "FORMERR opt|REFUSED"),
        ("family 0 with an address", "7871 7.1.2", edns(subnet(0, 8, 0, [1])), "FORMERR opt|REFUSED"),
        ("family 0 without an address", "7871 7.1.2", edns(subnet(0, 0, 0, [])), "NOERROR an=1 scope=0|FORMERR"),
        ("two subnets", "7871 7.1.2", edns(subnet(1, 24, 0, [192, 0, 2]), subnet(1, 24, 0, [198, 51, 100])), "FORMERR opt",
         "gdnsd takes one of the two, and a cache may have meant the other"),
        ("a subnet with SOA", "7871 7.2.1", head(ar=1) + ask(parent, SOA) + opt(subnet(1, 24, 0, [192, 0, 2])), "NOERROR an=1 scope=0"),
        ("a subnet with a name that is not there", "7871 7.4", head(ar=1) + ask("nobody." + parent) + opt(subnet(1, 24, 0, [192, 0, 2])), "NXDOMAIN scope=0"),
        ("a subnet with a type that is not there", "7871 7.4", head(ar=1) + ask(host, 99) + opt(subnet(1, 24, 0, [192, 0, 2])), "NOERROR an=0 scope=0"),
        ("a subnet with another's name", "7871 7.3", head(ar=1) + ask("example.org") + opt(subnet(1, 24, 0, [192, 0, 2])), "REFUSED !scope|REFUSED scope=0"),
    ]
    good = head(ar=1) + ask(host) + opt()
    framed = lambda message: struct.pack("!H", len(message)) + message
    # over TCP: what is sent (in pieces), and the answers; `...` stops sending and waits
    tcp = [
        ("TCP: a length of 0", "7766 8", [b"\0\0"], "close"),
        ("TCP: a length of 0, then a query", "7766 8", [b"\0\0" + framed(good)], "close|NOERROR"),
        ("TCP: eleven octets", "7766 8", [framed(head()[:11])], "close"),
        ("TCP: an answer", "1035 4.1.1", [framed(b"\x4d\x65\x81\0" + good[4:])], "close"),
        ("TCP: half a length, and stop", "7766 6.2.3", [b"\0"], "close", IDLE),
        ("TCP: half a message, and stop", "7766 6.2.3", [framed(good)[:20]], "close", IDLE),
        ("TCP: a length beyond what comes", "7766 8", [b"\xff\xff" + good], "close"),
        ("TCP: two messages in one segment", "7766 6.2.1.1", [framed(good) * 2], "NOERROR NOERROR"),
        ("TCP: twenty messages in one segment", "7766 6.2.1.1", [framed(good) * 20], " ".join(["NOERROR"] * 20)),
        ("TCP: octet by octet", "7766 8", [bytes([octet]) for octet in framed(good)], "NOERROR"),
        ("TCP: a message that breaks off in the next segment", "7766 8", [framed(good) + framed(good)[:9], framed(good)[9:]], "NOERROR NOERROR"),
        ("TCP: a malformed message, then a query", "1035 4.2.2", [framed(good + b"junk") + framed(good)], "FORMERR NOERROR", SPLICED),
        ("TCP: 65,535 octets", "1035 4.2.2", [framed((good + bytes(65535))[:65535])], "FORMERR|close"),
        ("TCP: a zone transfer", "5936 2.2", [framed(head(ar=1) + ask(parent, 252) + opt())], "REFUSED|NOTIMP"),
        ("TCP: an UPDATE", "2136 3.1", [framed(head(0x2800) + ask(parent, SOA))], "NOTIMP|REFUSED|close"),
        ("TCP: HTTP", "7766 8", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], "close"),
        ("TCP: TLS", "7766 8", [b"\x16\x03\x01\x00\x05hello"], "close"),
        ("TCP: closed without a word", "7766 6.2.3", [], "close"),
    ]
    return [Case(*row) for row in udp] + [Case(*row, tcp=True) for row in tcp]


def under_padded(octets, under):
    """A name of so many octets that ends in `under`."""
    left, labels = octets - len(under), b""
    while left > 0:
        size = min(63, left - 1)
        # no octet may be left for a label without letters
        size -= 1 if left - 1 - size == 1 else 0
        labels += bytes([size]) + b"b" * size
        left -= size + 1
    return labels + under


def name_end(message, at):
    while message[at]:
        if message[at] >= 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def told(answer, asked):
    """An answer in words."""
    number, flags, qd, an, ns, ar = struct.unpack("!HHHHHH", answer[:12])
    assert number == struct.unpack("!H", asked[:2])[0] and flags & 0x8000, "an answer to something else"
    words, rcode, at = [], flags & 15, 12
    for _ in range(qd):
        end = name_end(answer, at) + 4
        if answer[at:end] == asked[12 : 12 + end - at]:
            words.append("same-case")
        at = end
    for _ in range(an + ns + ar):
        at = name_end(answer, at)
        kind, size, ttl, length = struct.unpack("!HHIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        assert len(data) == length, "a record is cut"
        at += 10 + length
        if kind == OPT:
            rcode |= ttl >> 24 << 4
            words += ["opt", *options_told(data)]
    assert at == len(answer), "octets behind the end"
    names = [word for bit, word in FLAGS.items() if flags & bit]
    return " ".join([RCODES.get(rcode, f"RCODE{rcode}"), *names, f"an={an}", *words])


def options_told(data):
    while data:
        code, length = struct.unpack("!HH", data[:4])
        body, data = data[4 : 4 + length], data[4 + length :]
        if code == ECS:
            yield "scope"
            yield f"scope={body[3]}"
        elif code == EDE:
            yield f"ede={struct.unpack('!H', body[:2])[0]}"
        else:
            yield {COOKIE: "cookie", NSID: "nsid", KEEPALIVE: "keepalive"}.get(code, f"option{code}")


def over_udp(server, message, host):
    """What becomes of a message: if nothing comes before the answer to a proper query behind it, it was dropped."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(server)
    sock.settimeout(1.0)
    came = None
    for turn in range(3):
        try:
            if turn == 0:
                sock.send(message)
            sock.send(head(number=SENTINEL) + ask(host))
            while True:
                answer = sock.recv(65535)
                if answer[:2] == struct.pack("!H", SENTINEL):
                    # servers with several threads may answer the second message first
                    sock.settimeout(0.05 if came is None else 0.001)
                    try:
                        came = came or sock.recv(65535)
                    except socket.timeout:
                        pass
                    return "drop" if came is None else told(came, message)
                came = answer
        except socket.timeout:
            continue
        except ConnectionRefusedError:
            break
    return "gone"


def over_tcp(server, pieces):
    """The answers on one connection, until the server closes it or has nothing more to say."""
    sock = socket.create_connection(server, 2.0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers, received = [], b""
    wanted = sum(piece.count(b"\x4d\x65") for piece in [b"".join(pieces)])
    try:
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(0.003 if len(pieces) > 2 else 0.02)
        if not pieces:
            sock.shutdown(socket.SHUT_WR)
        sock.settimeout(PATIENCE_S)
        while True:
            while len(received) >= 2 and len(received) >= 2 + struct.unpack("!H", received[:2])[0]:
                length = struct.unpack("!H", received[:2])[0]
                message, received = received[2 : 2 + length], received[2 + length :]
                answers.append(told(message, message[:2] + bytes(600)).split(" ")[0])
            if answers and len(answers) >= wanted:
                break
            octets = sock.recv(65535)
            if not octets:
                break
            received += octets
    except socket.timeout:
        return " ".join(answers) or "open"
    except (ConnectionResetError, BrokenPipeError):
        pass
    finally:
        sock.close()
    return " ".join(answers) or "close"


def fits(came, expected):
    """Whether what came has all words of one of the expectations, and none of those that it excludes."""
    words = came.split(" ")

    def one(expectation):
        wanted = expectation.split(" ")
        if wanted[0] != words[0] or [w for w in wanted if w.isupper()] != [w for w in words if w.isupper()]:
            return False
        return all((word[1:] not in words) if word[0] == "!" else word in words for word in wanted)

    return any(one(expectation) for expectation in expected.split("|"))


def run(case, server, host):
    try:
        return over_tcp(server, case.message) if case.tcp else over_udp(server, case.message, host)
    except (AssertionError, IndexError, struct.error, OSError) as fault:
        return f"FAULT: {fault}"


# ---------------------------------------------------------------------------------------------------------------- peers

ZONE_FILE = """$TTL 300
@ SOA ns1.demo.test. admin.demo.test. 1 3600 600 86400 30
@ NS ns1.demo.test.
ns1 A 192.0.2.53
"""


def program(variable, name):
    """A peer's program: what the environment names, else what is installed."""
    found = os.environ.get(variable) or shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    return found if found and os.path.exists(found) else None


def peer_environment():
    """Peers that are unpacked and not installed need their libraries: MERIDIAN_PEERS_LIBRARIES."""
    libraries = os.environ.get("MERIDIAN_PEERS_LIBRARIES")
    return {**os.environ, **({"LD_LIBRARY_PATH": libraries} if libraries else {})}


def gdnsd(folder, port, path):
    os.makedirs(f"{folder}/zones")
    with open(f"{folder}/zones/demo.test", "w", encoding="utf-8") as file:
        file.write(ZONE_FILE + "shop DYNA geoip!shop\n")
    with open(f"{folder}/config", "w", encoding="utf-8") as file:
        file.write(
            f"options => {{ listen => 127.0.0.1, dns_port => {port}, udp_threads => 1, tcp_threads => 1, tcp_timeout => 5, "
            f"run_dir => {folder}/run, state_dir => {folder}/state, nsid_ascii => a, edns_client_subnet => true }}\n"
            "plugins => { geoip => { maps => { m => { datacenters => [eu, us], nets => { 192.0.2.0/25 => [us] } } }, "
            "resources => { shop => { map => m, dcmap => { eu => 198.51.100.1, us => 203.0.113.1 } } } } }\n"
        )
    return [path, "-c", folder, "start"]


def knot(folder, port, path):
    with open(f"{folder}/demo.test.zone", "w", encoding="utf-8") as file:
        file.write(ZONE_FILE + "shop A 198.51.100.1\n")
    with open(f"{folder}/geo.conf", "w", encoding="utf-8") as file:
        file.write("shop.demo.test:\n  - net: 192.0.2.0/25\n    A: 203.0.113.1\n  - net: 0.0.0.0/1\n    A: 198.51.100.1\n")
    modules = os.environ.get("MERIDIAN_PEER_KNOT_MODULES")
    with open(f"{folder}/knot.conf", "w", encoding="utf-8") as file:
        file.write(
            f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\n  edns-client-subnet: on\n  udp-workers: 1\n  tcp-workers: 1\n"
            f"  tcp-io-timeout: 3000\n  tcp-idle-timeout: 5\ndatabase:\n  storage: {folder}/db\n"
            + (f"module:\n  - id: mod-geoip\n    file: {modules}/geoip.so\n" if modules else "")
            + f"mod-cookies:\n  - id: default\n"
            f"mod-geoip:\n  - id: geo\n    config-file: {folder}/geo.conf\n    ttl: 30\n    mode: subnet\n"
            f"template:\n  - id: default\n    global-module: mod-cookies/default\n"
            f"zone:\n  - domain: demo.test\n    file: {folder}/demo.test.zone\n    module: mod-geoip/geo\n"
        )
    return [path, "-c", f"{folder}/knot.conf"]


PEERS = {"gdnsd": (gdnsd, "MERIDIAN_PEER_GDNSD", "gdnsd"), "knot": (knot, "MERIDIAN_PEER_KNOT", "knotd")}


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def started(name, folder):
    """A peer of this name with our zone, and where it is; None if it is not installed or does not answer."""
    configure, variable, command = PEERS[name]
    path = program(variable, command)
    if not path:
        print(f"{name} is not installed, and {variable} names none: left out", file=sys.stderr)
        return None
    os.makedirs(folder)
    port = free_port()
    with open(f"{folder}/log", "wb") as log:
        process = subprocess.Popen(configure(folder, port, path), stdout=log, stderr=log, env=peer_environment())
    for _ in range(60):
        time.sleep(0.1)
        if process.poll() is None and over_udp(("127.0.0.1", port), head() + ask("shop.demo.test"), "shop.demo.test").startswith("NOERROR"):
            return process, ("127.0.0.1", port)
    process.kill()
    with open(f"{folder}/log", encoding="utf-8", errors="replace") as log:
        print(f"{name} does not answer: left out\n{log.read()[-2000:]}", file=sys.stderr)
    return None


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=address, required=True)
    parser.add_argument("--name", default="shop.demo.test")
    parser.add_argument("--peers", default="", help="of gdnsd and knot, those to start")
    parser.add_argument("--table", action="store_true")
    order = parser.parse_args()

    wrong, worse, running = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            servers = {"meridian": order.server}
            for name in filter(None, order.peers.split(",")):
                peer = started(name, f"{folder}/{name}")
                if peer:
                    running.append(peer[0])
                    servers[name] = peer[1]
            everything = cases(order.name)
            # one message after the other over UDP; connections mostly wait
            with ThreadPoolExecutor(16) as pool:
                ask_all = lambda case: {name: run(case, server, order.name) for name, server in servers.items()}
                slow = {case.name: pool.submit(ask_all, case) for case in everything if case.tcp}
                answers = [(case, slow[case.name].result() if case.tcp else ask_all(case)) for case in everything]
            for case, came in answers:
                if not fits(came["meridian"], case.expected):
                    wrong.append(f"{case.name} (RFC {case.rfc}): {case.expected} was expected, {came['meridian']} came")
                differs = "gdnsd" in came and not fits(came["gdnsd"], case.expected)
                if differs and not case.gdnsd:
                    worse.append(f"{case.name} (RFC {case.rfc}): gdnsd answers {came['gdnsd']}, and nobody says why that is no better")
                if order.table:
                    print(f"| {case.name} | {case.rfc} | {case.expected.replace('|', ' or ')} | {' | '.join(came.values())} | {case.gdnsd if differs else ''} |")
        finally:
            for process in running:
                process.terminate()
                process.wait()
    for line in wrong + worse:
        print(line)
    print(f"{len(everything)} cases, {len(wrong)} wrong" + (f", {len(worse)} where gdnsd differs unexplained" if len(servers) > 1 else ""))
    return 1 if wrong or worse else 0


if __name__ == "__main__":
    sys.exit(main())
