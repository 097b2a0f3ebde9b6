/** The node's API, typed by its OpenAPI document. */

import createClient from "openapi-fetch";

import { session } from "../logic/session.svelte";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Fleet = Schemas["Fleet"];
export type Region = Schemas["Region"];
export type RealmLedger = Schemas["RealmLedger"];
export type RegionState = Schemas["RegionState"];
export type NodeState = Schemas["NodeState"];
export type Sites = Schemas["Sites"];
export type Site = Schemas["Site"];
export type Status = Schemas["Status"];
export type Purge = Schemas["Purge"];
export type PurgeOrder = Schemas["PurgeOrder"];
export type PurgeScope = Schemas["PurgeScope"];
export type SignedPurge = Schemas["SignedPurge"];
export type Audit = Schemas["Audit"];
export type PurgeNodeState = Schemas["PurgeNodeState"];
export type ExplainOrder = Schemas["ExplainOrder"];
export type Explanation = Schemas["Explanation"];
export type Steering = Schemas["Steering"];
export type Step = Schemas["Step"];
export type Trail = Schemas["Trail"];
export type Problem = Schemas["Problem"];

/** The token is not taken (any more): the operator has to log in. */
export class SessionEnded extends Error {}

/** The node gave no usable answer. */
export class Unreachable extends Error {
  constructor(
    message: string,
    readonly retryAfterS?: number,
  ) {
    super(message);
  }
}

/** The node refused, and says why. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

const client = createClient<paths>({ baseUrl: location.origin });

client.use({
  onRequest({ request }) {
    if (session.token) request.headers.set("authorization", `Bearer ${session.token}`);
    return request;
  },
});

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The answer's data, or why there is none as an error of the kinds above. */
async function answered<T>(asking: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await asking;
  } catch (error) {
    const late = error instanceof DOMException && error.name === "AbortError";
    throw new Unreachable(late ? "The node took too long to answer." : "The node cannot be reached.");
  }
  if (answer.data !== undefined) return answer.data;
  const { status } = answer.response;
  if (status === 401) {
    session.logout("The token was not accepted. Log in again.");
    throw new SessionEnded();
  }
  if (isProblem(answer.error)) {
    if (status === 429 || status >= 500) throw new Unreachable(answer.error.detail, answer.error.retry_after_s ?? undefined);
    throw new Refused(answer.error);
  }
  throw new Unreachable(`The node answered with status ${status}.`);
}

function isProblem(error: unknown): error is Problem {
  return typeof error === "object" && error !== null && "detail" in error && "title" in error;
}

/** The fleet; if an answer is there already, as soon as there is news, or after a second without. */
export const fleet = (signal: AbortSignal, last: Fleet | undefined): Promise<Fleet> =>
  answered(client.GET("/api/v1/fleet", { signal, params: { query: last ? { epoch: last.epoch, wait_ms: 1_000 } : {} } }));

export const sites = (signal: AbortSignal): Promise<Sites> => answered(client.GET("/api/v1/sites", { signal }));
export const status = (signal: AbortSignal): Promise<Status> => answered(client.GET("/api/v1/status", { signal }));

export const purges = async (signal: AbortSignal): Promise<Purge[]> =>
  (await answered(client.GET("/api/v1/purges", { signal, params: { query: { limit: 50 } } }))).purges;

export const purge = (id: string, signal: AbortSignal): Promise<Purge> =>
  answered(client.GET("/api/v1/purges/{id}", { signal, params: { path: { id } } }));

/** Orders a purge of one site, which has one answer. */
export async function orderPurge(body: PurgeOrder & { site: string }): Promise<Purge> {
  const ordered = await answered(client.POST("/api/v1/purges", { body }));
  if ("answers" in ordered) throw new Unreachable("The node answered something else than a purge.");
  return ordered;
}

export const signedPurge = (id: string): Promise<SignedPurge> =>
  answered(client.GET("/api/v1/purges/{id}/receipt", { params: { path: { id } } }));

/** Who ordered what through this node: a page of it. */
export const auditPurges = (query: { site?: string; token?: string; below?: string; limit: number }): Promise<Audit> =>
  answered(client.GET("/api/v1/audit/purges", { params: { query } }));

export const explain = (body: ExplainOrder): Promise<Explanation> => answered(client.POST("/api/v1/explain", { body }));

export const trail = (id: string): Promise<Trail> =>
  answered(client.GET("/api/v1/explain/requests/{id}", { params: { path: { id } } }));

/** Whether a token is taken: none if it is, or else why not. */
export async function tryToken(token: string): Promise<string | undefined> {
  try {
    const response = await fetch("/api/v1/status", { headers: { authorization: `Bearer ${token}` } });
    if (response.ok) return undefined;
    if (response.status === 401) return "This is not the admin token of this node.";
    const wait = response.headers.get("retry-after");
    return wait ? `Too many wrong tokens. Try again in ${wait} s.` : `The node answered with status ${response.status}.`;
  } catch {
    return "The node cannot be reached.";
  }
}
