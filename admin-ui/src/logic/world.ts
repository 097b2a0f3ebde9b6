/** The map: Natural Earth's land in the Natural Earth projection, cut off where nobody stands. */

import { geoNaturalEarth1, geoPath } from "d3-geo";
import { feature, mesh } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import atlas from "world-atlas/countries-110m.json";

type Atlas = Topology<{ countries: GeometryCollection; land: GeometryCollection }>;

const NORTH = 84;
const SOUTH = -57;
export const WIDTH = 960;

const projection = geoNaturalEarth1();
projection.fitWidth(WIDTH, { type: "Sphere" });
const top = projection([0, NORTH])?.[1] ?? 0;
const bottom = projection([0, SOUTH])?.[1] ?? 500;
const [left, above] = projection.translate();
projection.translate([left, above - top]);

export const HEIGHT = Math.round(bottom - top);

const path = geoPath(projection);
// the file's type is not known to the compiler; its shape is that of every world-atlas file
const world = atlas as unknown as Atlas;

export const land = path(feature(world, world.objects.land)) ?? "";
export const borders = path(mesh(world, world.objects.countries, (a, b) => a !== b)) ?? "";
export const outline = path({ type: "Sphere" }) ?? "";

/** Where a place is on the map. */
export function spot(longitude: number, latitude: number): [number, number] {
  return projection([longitude, Math.min(Math.max(latitude, SOUTH + 1), NORTH - 1)]) ?? [0, 0];
}

/** The great circle between two places. */
export function arc(from: [number, number], to: [number, number]): string {
  return path({ type: "LineString", coordinates: [from, to] }) ?? "";
}
