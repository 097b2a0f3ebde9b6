// Rebuilds the embedded country-level default: countries.bin and centroids.txt, beside this file.
//
//     node node/meridian/geo/build.mjs            needs npm and nothing else
//
// Same inputs, same bytes: the inputs are pinned by version and by the registry's own hash, and no clock is read.
// README.md beside this file says what the data is, whose it is, and what is wrong with it.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';

const PACKAGES = {
  ranges: ['@ip-location-db/geo-whois-asn-country', '2.3.2026061719',
    '9MQ3r2q+GDLwW+Mye5duWnHe3n1qB1ZcNUcM9P58CpdW86Gt44AgfIrem6Pcy/tbCHhQ70RJCLngQQyYnaEjbw=='],
  atlas: ['world-atlas', '2.0.2',
    'IXfV0qwlKXpckz1FhwXVwKRjiIhOnWttOskm5CtxMsjgE/MXAYRHWJqgXOpM8IkcPBoXnyTU5lFHcYa5ChG0LQ=='],
  codes: ['i18n-iso-countries', '7.14.0',
    'nXHJZYtNrfsi1UQbyRqm3Gou431elgLjKl//CYlnBGt5aTWdRPH1PiS2T/p/n8Q8LnqYqzQJik3Q7mkwvLokeg=='],
};

// Blocks that are nobody's place: the source gives some of them to a country (IANA special-purpose registries).
const SPECIAL_V4 = ['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12',
  '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24',
  '203.0.113.0/24', '224.0.0.0/3'];
const SPECIAL_V6 = ['::/3', '2001::/32', '2001:2::/48', '2001:10::/27', '2001:db8::/32', '2002::/16', '3fff::/20',
  '4000::/2', '8000::/1'];

// Territories with an ISO code but no outline of their own in Natural Earth, which draws them as part of another
// country: degrees north and east.
const SUPPLEMENT = {
  BQ: [12.2, -68.3], BV: [-54.4, 3.4], CC: [-12.2, 96.8], CX: [-10.5, 105.6], GF: [3.9, -53.1], GP: [16.2, -61.5],
  MQ: [14.6, -61.0], RE: [-21.1, 55.5], SJ: [78.6, 16.3], TK: [-9.2, -171.8], XK: [42.6, 20.9], YT: [-12.8, 45.2],
};

const here = dirname(fileURLToPath(import.meta.url));
const work = mkdtempSync(join(tmpdir(), 'meridian-geo-'));
try {
  const centroids = countryCentroids(unpack('atlas'), unpack('codes'));
  writeFileSync(join(here, 'centroids.txt'), centroidText(centroids));
  const binary = pack(unpack('ranges'), centroids);
  writeFileSync(join(here, 'countries.bin'), binary);
  console.log(`countries.bin: ${binary.length} bytes; centroids.txt: ${centroids.size} countries`);
} finally {
  rmSync(work, { recursive: true });
}

// ---- inputs

function unpack(which) {
  const [name, version, sha512] = PACKAGES[which];
  const tarball = execFileSync('npm', ['pack', '--silent', '--pack-destination', work, `${name}@${version}`],
    { encoding: 'utf8', cwd: work }).trim().split('\n').pop();
  const found = createHash('sha512').update(readFileSync(join(work, tarball))).digest('base64');
  if (found !== sha512) throw new Error(`${name}@${version}: expected sha512 ${sha512}, found ${found}`);
  const folder = join(work, which);
  execFileSync('mkdir', [folder]);
  execFileSync('tar', ['xzf', join(work, tarball), '-C', folder, '--strip-components=1']);
  return folder;
}

function rows(file) {
  return readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => {
    const [first, last, country] = line.trim().split(',');
    return { first: BigInt(first), last: BigInt(last), country };
  });
}

// ---- centroids: the middle of each country's largest piece of land, so that far islands do not pull it to sea

function countryCentroids(atlas, codes) {
  const world = JSON.parse(readFileSync(join(atlas, 'countries-10m.json'), 'utf8'));
  const alpha2 = new Map(JSON.parse(readFileSync(join(codes, 'codes.json'), 'utf8')).map((c) => [c[2], c[0]]));
  const arcs = world.arcs.map((arc) => decodeArc(arc, world.transform));
  const largest = new Map();
  for (const shape of world.objects.countries.geometries) {
    const code = alpha2.get(shape.id);
    if (!code) continue;
    const polygons = shape.type === 'Polygon' ? [shape.arcs] : shape.type === 'MultiPolygon' ? shape.arcs : [];
    for (const [outer] of polygons) {
      const piece = middle(outer.flatMap((i) => (i < 0 ? [...arcs[~i]].reverse() : arcs[i])));
      if (!largest.has(code) || largest.get(code).area < piece.area) largest.set(code, piece);
    }
  }
  const all = [...largest].map(([code, { latitude, longitude }]) => [code, [latitude, longitude]]);
  const missing = Object.entries(SUPPLEMENT).filter(([code]) => !largest.has(code));
  return new Map([...all, ...missing].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function decodeArc(arc, { scale, translate }) {
  let x = 0;
  let y = 0;
  return arc.map(([dx, dy]) => {
    x += dx;
    y += dy;
    return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
  });
}

// The vector area of a ring on the unit sphere: it points at the ring's middle, and its length is (nearly) its area.
function middle(ring) {
  const points = ring.map(([lon, lat]) => {
    const [l, p] = [(lon * Math.PI) / 180, (lat * Math.PI) / 180];
    return [Math.cos(p) * Math.cos(l), Math.cos(p) * Math.sin(l), Math.sin(p)];
  });
  const sum = [0, 0, 0];
  points.forEach((a, i) => {
    const b = points[(i + 1) % points.length];
    sum[0] += a[1] * b[2] - a[2] * b[1];
    sum[1] += a[2] * b[0] - a[0] * b[2];
    sum[2] += a[0] * b[1] - a[1] * b[0];
  });
  const area = Math.hypot(...sum);
  const near = points[0];
  const side = Math.sign(sum[0] * near[0] + sum[1] * near[1] + sum[2] * near[2]) || 1;
  const [x, y, z] = sum.map((v) => (v * side) / area);
  return { area, latitude: (Math.asin(z) * 180) / Math.PI, longitude: (Math.atan2(y, x) * 180) / Math.PI };
}

function centroidText(centroids) {
  const head = '# ISO 3166-1 alpha-2, degrees north, degrees east: the middle of the largest piece of land.\n'
    + '# Computed by build.mjs from Natural Earth 4.1 (public domain, world-atlas 2.0.2).\n';
  return head + [...centroids].map(([c, [n, e]]) => `${c} ${n.toFixed(2)} ${e.toFixed(2)}\n`).join('');
}

// ---- ranges

function pack(folder, centroids) {
  const v4 = cells(rows(join(folder, 'geo-whois-asn-country-ipv4-num.csv')), special(SPECIAL_V4, 32), 8n);
  const v6 = cells(rows(join(folder, 'geo-whois-asn-country-ipv6-num.csv')), special(SPECIAL_V6, 128), 80n);
  const countries = [...new Set([...v4, ...v6].map((r) => r.country))].filter(Boolean).sort();
  const unplaced = countries.filter((c) => !centroids.has(c));
  if (unplaced.length) console.warn(`no coordinates for ${unplaced.join(' ')}: treated as no data`);
  const index = new Map(countries.map((c, i) => [c, i + 1]));
  const tables = [stream(v4, 1n << 24n, index), stream(v6, 1n << 48n, index)];

  const head = Buffer.alloc(8 + 4);
  head.write('MERIDGEO', 0, 'latin1');
  head.writeUInt8(1, 8); // version of this format
  head.writeUInt8(24, 9); // bits of an IPv4 cell
  head.writeUInt8(48, 10); // bits of an IPv6 cell
  head.writeUInt8(countries.length, 11);
  const parts = [head, Buffer.from(countries.join(''), 'latin1')];
  for (const { count, bytes } of tables) {
    const size = Buffer.alloc(8);
    size.writeUInt32LE(count, 0);
    size.writeUInt32LE(bytes.length, 4);
    parts.push(size, bytes);
  }
  const body = Buffer.concat(parts);
  const check = Buffer.alloc(4);
  check.writeUInt32LE(crc32(body) >>> 0);
  return Buffer.concat([body, check]);
}

function special(blocks, bits) {
  return blocks.map((block) => {
    const [address, length] = block.split('/');
    const first = bits === 32 ? fromV4(address) : fromV6(address);
    return { first, last: first + (1n << BigInt(bits - Number(length))) - 1n, country: '' };
  });
}

function fromV4(text) {
  return text.split('.').reduce((n, part) => (n << 8n) | BigInt(part), 0n);
}

function fromV6(text) {
  const [left, right] = text.split('::').map((half) => half.split(':').filter(Boolean));
  const groups = [...left, ...Array(8 - left.length - right.length).fill('0'), ...right];
  return groups.reduce((n, group) => (n << 16n) | BigInt(`0x${group}`), 0n);
}

// Disjoint ranges of whole cells. The source's rows overlap in places: the narrower row wins; a special block beats all.
// A cell that several countries share belongs to the one with most of its addresses.
function cells(source, specials, shift) {
  const flat = [];
  sweep([...source, ...specials]).forEach(({ first, last, country }) => addCells(flat, first, last, country, shift));
  const merged = [];
  for (const { first, last, shares } of flat) {
    const country = [...shares].sort(([a, x], [b, y]) => (x === y ? (a < b ? -1 : 1) : x > y ? -1 : 1))[0][0];
    const before = merged.at(-1);
    if (before && before.country === country && before.last + 1n === first) before.last = last;
    else merged.push({ first, last, country });
  }
  return merged;
}

function sweep(list) {
  const width = (r) => (r.country === '' ? -1n : r.last - r.first);
  const edges = list.flatMap((row) => [{ at: row.first, opens: true, row }, { at: row.last + 1n, opens: false, row }]);
  edges.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  const live = [];
  const out = [];
  edges.forEach(({ at, opens, row }, i) => {
    if (opens) live.push(row);
    else live.splice(live.indexOf(row), 1);
    const until = edges[i + 1]?.at;
    if (!live.length || until === at) return;
    const best = live.reduce((a, b) => (width(b) < width(a) ? b : a));
    out.push({ first: at, last: until - 1n, country: best.country });
  });
  return out;
}

function addCells(out, first, last, country, shift) {
  const size = 1n << shift;
  let at = first;
  while (at <= last) {
    const cell = at >> shift;
    const end = last >> shift;
    const whole = (at & (size - 1n)) === 0n && at + size - 1n <= last;
    const until = whole && (last & (size - 1n)) !== size - 1n ? end - 1n : whole ? end : cell;
    const stop = whole ? ((until + 1n) << shift) - 1n : min(last, ((cell + 1n) << shift) - 1n);
    const open = out.at(-1);
    const share = stop - at + 1n;
    if (open && open.last === cell && !whole) open.shares.set(country, (open.shares.get(country) ?? 0n) + share);
    else out.push({ first: cell, last: until, shares: new Map([[country, share]]) });
    at = stop + 1n;
  }
}

function min(a, b) {
  return a < b ? a : b;
}

// Each range is its length in cells and its country's index (0: no data); together they cover the whole space.
function stream(ranges, space, index) {
  const bytes = [];
  let count = 0;
  let at = 0n;
  let open = null;
  const flush = () => {
    if (!open) return;
    count += 1;
    lengthBytes(open.length, bytes);
    bytes.push(open.country);
  };
  const add = (length, country) => {
    if (length === 0n) return;
    if (open && open.country === country) open.length += length;
    else {
      flush();
      open = { length, country };
    }
  };
  for (const { first, last, country } of ranges) {
    add(first - at, 0);
    add(last - first + 1n, index.get(country) ?? 0);
    at = last + 1n;
  }
  add(space - at, 0);
  flush();
  return { count, bytes: Buffer.from(bytes) };
}

// A length is `odd << zeros`: one byte of zeros (its top bit set if odd > 1), then odd / 2 in 7-bit groups, low first.
function lengthBytes(length, out) {
  let zeros = 0;
  while ((length & 1n) === 0n) {
    length >>= 1n;
    zeros += 1;
  }
  let rest = length >> 1n;
  out.push(rest ? zeros | 0x80 : zeros);
  while (rest) {
    const group = Number(rest & 0x7fn);
    rest >>= 7n;
    out.push(rest ? group | 0x80 : group);
  }
}
