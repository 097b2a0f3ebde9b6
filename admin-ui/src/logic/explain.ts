/** A request to explain as it is put together in the form: checked here for what can be known here. */

import type { ExplainOrder, Step } from "../api/client";

export interface Draft {
  url: string;
  method: string;
  /** Fields, `Name: value`, one a line. */
  fields: string;
  /** A client's address; empty for none. */
  client: string;
}

export const FIELDS_MAX = 64;

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** The lines of a text that hold something. */
function lines(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** What is missing or wrong in a draft, in a sentence; none if it can be sent. */
export function fault(draft: Draft): string | undefined {
  const url = draft.url.trim();
  if (!url) return "Name a URL.";
  if (!/^https?:\/\/[^/?#\s@]+([/?][^#\s]*)?$/i.test(url)) return "This is not an absolute http or https URL.";
  if (!TOKEN.test(draft.method.trim())) return "This is not a method.";
  const fields = lines(draft.fields);
  if (fields.length > FIELDS_MAX) return `At most ${FIELDS_MAX} fields are taken.`;
  const bad = fields.find((line) => !TOKEN.test(line.split(":", 1)[0] ?? "") || !line.includes(":"));
  return bad === undefined ? undefined : `\u201c${bad}\u201d is not a field: write it as Name: value.`;
}

/** The order for a draft. What is given several times is one list (RFC 9110 section 5.3). */
export function orderOf(draft: Draft): ExplainOrder {
  const headers: Record<string, string> = {};
  for (const line of lines(draft.fields)) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    const before = headers[name];
    headers[name] = before === undefined ? value : `${before}${name === "cookie" ? "; " : ", "}${value}`;
  }
  return { url: draft.url.trim(), method: draft.method.trim().toUpperCase(), headers, client: draft.client.trim() || null };
}

/** What is wrong with a request's id, in a sentence; none if it can be asked for. */
export function idFault(id: string): string | undefined {
  return /^[0-9a-f]{32}$/i.test(id.trim()) ? undefined : "The id has 32 digits from 0 to f, as Meridian-Request says it.";
}

/** The one advice that matters: of the last step that has one. */
export function advice(steps: readonly Step[]): { reason: string; advice: string } | undefined {
  const step = steps.findLast((step) => step.reason && step.advice);
  return step?.reason && step.advice ? { reason: step.reason, advice: step.advice } : undefined;
}

/** A time in us, as short as it can be read. */
export function after(us: number | null | undefined): string {
  if (us === null || us === undefined) return "";
  return us < 1_000 ? `${us} \u00b5s` : us < 1_000_000 ? `${(us / 1_000).toFixed(1)} ms` : `${(us / 1_000_000).toFixed(2)} s`;
}
