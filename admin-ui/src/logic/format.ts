/** Numbers and times for people. Every figure keeps its unit. */

const none = "\u2013";

export function count(n: number): string {
  return n.toLocaleString("en", { maximumFractionDigits: 0 });
}

/** A rate per second: three digits that matter. */
export function rate(perS: number): string {
  if (perS === 0) return "0";
  if (perS < 0.1) return "<0.1";
  if (perS < 100) return perS.toFixed(1);
  return count(perS);
}

/** A share; never rounded up to 100 % or down to 0 % where something is missing or left. */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined) return none;
  const tenths = share * 1_000;
  const rounded = share >= 1 ? 1_000 : Math.min(Math.max(Math.round(tenths), share > 0 ? 1 : 0), 999);
  return `${(rounded / 10).toFixed(1)} %`;
}

export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (n >= 1_000 && unit < units.length - 1) {
    n /= 1_000;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

export function roundTrip(us: number | null | undefined): string {
  if (us === null || us === undefined) return none;
  return us < 1_000 ? `${us} \u00b5s` : `${(us / 1_000).toFixed(us < 10_000 ? 1 : 0)} ms`;
}

/** A span of time: the two largest units. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1_000));
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

/** A short while, in tenths of a second as long as they matter. */
export function age(ms: number): string {
  return ms < 60_000 ? `${(Math.floor(ms / 100) / 10).toFixed(1)} s` : span(ms);
}

/** A time of day in this browser's zone, with the date if it is not today. */
export function time(unixMs: number, nowMs: number): string {
  const at = new Date(unixMs);
  const clock = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date(nowMs).toDateString() ? clock : `${at.toLocaleDateString("en-CA")} ${clock}`;
}

export function coordinates(latitude: number, longitude: number): string {
  const part = (value: number, [plus, minus]: [string, string]) => `${Math.abs(value).toFixed(1)}\u00b0 ${value < 0 ? minus : plus}`;
  return `${part(latitude, ["N", "S"])}, ${part(longitude, ["E", "W"])}`;
}
