/** A purge as it is put together in the form: checked here for what can be known here; the node has the last word. */

import type { Purge, PurgeOrder, PurgeScope } from "../api/client";

export type Scope = "tags" | "urls" | "prefixes" | "hosts" | "everything";

export interface Draft {
  site: string;
  scope: Scope;
  /** Tags, URLs, prefixes or hosts, one a line (tags also between spaces or commas). */
  text: string;
  /** The site's name, typed once more, before everything is purged. */
  confirmation: string;
  mode: "hard" | "soft";
  wait: "local" | "quorum" | "region" | "all";
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
  if (names.length === 0) return `Name at least one ${NOUN[draft.scope]}.`;
  if (names.length > KEYS_MAX) return `${names.length} are named, and one purge takes at most ${KEYS_MAX}.`;
  for (const name of names) {
    const wrong = faultOf(draft.scope, name);
    if (wrong !== undefined) return `\u201c${name.length > 60 ? name.slice(0, 60) + "\u2026" : name}\u201d ${wrong}.`;
  }
  return undefined;
}

const NOUN = { tags: "tag", urls: "URL", prefixes: "prefix", hosts: "host" } as const;

/** What is wrong with one name, as the end of a sentence. */
function faultOf(scope: Exclude<Scope, "everything">, name: string): string | undefined {
  switch (scope) {
    case "tags":
      return new TextEncoder().encode(name).length > 256 ? "is longer than 256 bytes" : undefined;
    case "urls":
      return absolute(name) ? undefined : "is not an absolute http or https URL";
    case "prefixes":
      if (!absolute(name) || name.includes("?")) return "is not an absolute http or https URL without a query";
      if (/^https?:\/\/[^/]+\/?$/i.test(name)) return "is a whole host: choose \u201cHosts\u201d";
      return name.endsWith("/") ? undefined : "does not end with \u201c/\u201d";
    case "hosts":
      return /^[^/:?#@\s]+$/.test(name) || /^\[[0-9a-f:.]+\]$/i.test(name) ? undefined : "is not a host: no scheme, port or path";
  }
}

/** The order for a draft. It asks not to wait: the screen follows the purge by itself. */
export function orderOf(draft: Draft, idempotencyKey: string): PurgeOrder & { site: string } {
  const names = named(draft);
  return {
    site: draft.site,
    tenant: null,
    realm: null,
    tags: draft.scope === "tags" ? names : [],
    urls: draft.scope === "urls" ? names : [],
    prefixes: draft.scope === "prefixes" ? names : [],
    hosts: draft.scope === "hosts" ? names : [],
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
  if (wait === "quorum") return purge.state !== "accepted";
  return purge.state === "all" || (wait === "region" && purge.state === "region");
}

export function scopeText({ scope }: { scope: PurgeScope[] }): string {
  return scope.map(nameOf).join(", ");
}

function nameOf(scope: PurgeScope): string {
  switch (scope.kind) {
    case "url":
      return scope.host + scope.target;
    case "prefix":
      return `${scope.host}${scope.path}/`;
    case "host":
      return `host ${scope.host}`;
    case "tag":
      return scope.tag;
    case "everything":
      return "everything";
    case "realm":
      return "everything of all sites";
  }
}

/** What a purge is about: a site, or a whole realm. */
export function aboutText({ site, realm }: { site?: string | null; realm: string }): string {
  return site ?? `all of ${realm}`;
}

/** Random, and also where the page is not in a secure context (which `crypto.randomUUID` needs). */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function absolute(url: string): boolean {
  return /^https?:\/\/[^/?#\s]+([/?][^#\s]*)?$/i.test(url);
}
