/** How purges stand on a node, in words. */

import type { RealmLedger } from "../api/client";
import { age } from "./format";
import { LEASE, type Look } from "./states";

/** From here on a node says in what it serves that it has not heard of late. */
const UNCONFIRMED_MS = 5_000;

/** How sure the node is that it has heard of every purge: the lease's age as the word. */
export function lease(ledger: RealmLedger): Look {
  if (ledger.stopped) return LEASE.stopped;
  const ms = ledger.lease_age_ms;
  if (ms === null) return LEASE.none;
  return { ...(ms < UNCONFIRMED_MS ? LEASE.young : LEASE.old), word: age(ms) };
}

/** The most that a witness says it has, and that the node has not read. */
export function unread(ledger: RealmLedger): number {
  return Math.max(0, ...ledger.witnesses.map((witness) => witness.unread));
}
