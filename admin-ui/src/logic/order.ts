/** The order of the sites' table. */

import type { Site } from "../api/client";

export const COLUMNS = ["name", "rate", "hits", "requests", "origin"] as const;
export type Column = (typeof COLUMNS)[number];

const value: Record<Exclude<Column, "name">, (site: Site) => number> = {
  rate: (site) => site.total.requests_per_s,
  hits: (site) => site.total.hit_ratio ?? -1,
  requests: (site) => site.total.requests,
  origin: (site) => site.total.origin_fetches,
};

/** Sites that match all words of the filter, ordered: names upwards, figures downwards, equals by name. */
export function arranged(sites: readonly Site[], column: Column, filter: string): Site[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (site: Site) => [site.name, site.tenant, site.pin ?? "", ...site.hosts].join(" ").toLowerCase();
  const shown = sites.filter((site) => words.every((word) => text(site).includes(word)));
  const byName = (a: Site, b: Site) => (a.name < b.name ? -1 : 1);
  if (column === "name") return shown.sort(byName);
  return shown.sort((a, b) => value[column](b) - value[column](a) || byName(a, b));
}
