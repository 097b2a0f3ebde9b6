/** A purge as it is put together in the form: checked here for what can be known here; the node has the last word. */

import type { Purge, PurgeOrder } from "../api/client";

export type Scope = "tags" | "urls" | "everything";

export interface Draft {
  site: string;
  scope: Scope;
  /** Tags or URLs, one a line (tags also between spaces or commas). */
  text: string;
  /** The site's name, typed once more, before everything is purged. */
  confirmation: string;
  mode: "hard" | "soft";
  wait: "local" | "quorum" | "all";
}

export const KEYS_MAX = 30;

/** What a draft names: no empty lines, nothing twice. */
export function named(draft: Draft): string[] {
  if (draft.scope === "everything") return [];
  const border = draft.scope === "tags" ? /[\s,]+/ : /\s+/;
  return [...new Set(draft.text.split(border).filter((word) => word !== ""))];
}

/** What is missing or wrong in a draft, in a sentence; none if it can be sent. */
export function fault(draft: Draft): string | undefined {
  if (!draft.site) return "Choose a site.";
  if (draft.scope === "everything") {
    return draft.confirmation === draft.site ? undefined : `Type \u201c${draft.site}\u201d to confirm.`;
  }
  const names = named(draft);
  if (names.length === 0) return draft.scope === "tags" ? "Name at least one tag." : "Name at least one URL.";
  if (names.length > KEYS_MAX) return `${names.length} are named, and one purge takes at most ${KEYS_MAX}.`;
  const bad = names.find((name) => (draft.scope === "urls" ? !absolute(name) : new TextEncoder().encode(name).length > 256));
  if (bad === undefined) return undefined;
  return draft.scope === "urls" ? `\u201c${bad}\u201d is not an absolute http or https URL.` : `\u201c${bad.slice(0, 40)}\u2026\u201d is longer than 256 bytes.`;
}

/** The order for a draft. It asks not to wait: the screen follows the purge by itself. */
export function orderOf(draft: Draft, idempotencyKey: string): PurgeOrder {
  const names = named(draft);
  return {
    site: draft.site,
    tags: draft.scope === "tags" ? names : [],
    urls: draft.scope === "urls" ? names : [],
    everything: draft.scope === "everything",
    mode: draft.mode,
    wait: "local",
    idempotency_key: idempotencyKey,
    timeout_ms: 10_000,
  };
}

/** Whether a purge has come as far as the operator wants to know. */
export function reached(purge: Purge, wait: Draft["wait"]): boolean {
  if (wait === "local") return true;
  return wait === "quorum" ? purge.state !== "accepted" : purge.state === "all";
}

export function scopeText(purge: Purge): string {
  return purge.scope
    .map((scope) => {
      if (scope.kind === "everything") return "everything";
      return scope.kind === "tag" ? scope.tag : scope.host + scope.target;
    })
    .join(", ");
}

/** Random, and also where the page is not in a secure context (which `crypto.randomUUID` needs). */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function absolute(url: string): boolean {
  return /^https?:\/\/[^/?#\s]+([/?][^#\s]*)?$/i.test(url);
}
