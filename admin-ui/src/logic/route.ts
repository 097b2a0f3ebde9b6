/** Which screen is shown, and what on it: all of it stands in the URL's hash, `#/sites?open=shop&sort=rate`. */

export const SCREENS = ["fleet", "sites", "purge", "explain"] as const;
export type Screen = (typeof SCREENS)[number];

export interface Route {
  screen: Screen;
  params: Readonly<Record<string, string>>;
}

/** Reads a hash. What is not known leads to the first screen. */
export function parseHash(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const screen = SCREENS.find((known) => known === path) ?? "fleet";
  return { screen, params: Object.fromEntries(new URLSearchParams(query)) };
}

/** Writes a hash; parameters that are empty are left out. */
export function formatHash(route: { screen: Screen; params?: Record<string, string | undefined> }): string {
  const given = Object.entries(route.params ?? {}).filter((entry): entry is [string, string] => !!entry[1]);
  const query = new URLSearchParams(given).toString();
  return `#/${route.screen}${query ? `?${query}` : ""}`;
}

/** Takes a token out of the hash (`#token=...`): the token, and the hash that is left. None if there is none. */
export function takeToken(hash: string): { token: string; rest: string } | undefined {
  const params = new URLSearchParams(hash.replace(/^#\/?/, ""));
  const token = params.get("token")?.trim();
  if (!token) return undefined;
  return { token, rest: "#/fleet" };
}
