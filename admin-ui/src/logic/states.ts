/** How states look: each has a colour class, a shape and a word, so that none is told by colour alone. */

import type { NodeState, PurgeNodeState, RegionState } from "../api/client";

export type Tone = "good" | "warn" | "busy" | "idle" | "bad";

/** A path in a square from -8 to 8. */
export interface Look {
  tone: Tone;
  word: string;
  shape: string;
  meaning: string;
}

const CIRCLE = "M-7 0A7 7 0 1 1 7 0A7 7 0 1 1 -7 0Z";
const TRIANGLE = "M0 -8L8 6.5H-8Z";
const DIAMOND = "M0 -8.5L8.5 0L0 8.5L-8.5 0Z";
const SQUARE = "M-6.5 -6.5H6.5V6.5H-6.5Z";
const RING = "M-7 0A7 7 0 1 1 7 0A7 7 0 1 1 -7 0ZM-3.6 0A3.6 3.6 0 1 0 3.6 0A3.6 3.6 0 1 0 -3.6 0Z";
const CROSS = "M-7.5 -4.6L-4.6 -7.5L0 -2.9L4.6 -7.5L7.5 -4.6L2.9 0L7.5 4.6L4.6 7.5L0 2.9L-4.6 7.5L-7.5 4.6L-2.9 0Z";

export const REGION: Record<RegionState, Look> = {
  up: { tone: "good", word: "up", shape: CIRCLE, meaning: "Healthy." },
  degraded: { tone: "warn", word: "degraded", shape: TRIANGLE, meaning: "Several observers do not reach it, or most of its nodes are down." },
  draining: { tone: "busy", word: "draining", shape: DIAMOND, meaning: "Told to give up its clients." },
  unknown: { tone: "idle", word: "unknown", shape: RING, meaning: "Nobody has said anything yet." },
  down: { tone: "bad", word: "down", shape: CROSS, meaning: "A quorum of regions cannot reach it." },
};

export const NODE: Record<NodeState, Look> = {
  up: { tone: "good", word: "up", shape: CIRCLE, meaning: "Answers probes." },
  starting: { tone: "idle", word: "starting", shape: RING, meaning: "Answers probes, and is not ready for clients yet." },
  draining: { tone: "busy", word: "draining", shape: DIAMOND, meaning: "Answers probes, and was told to give up its clients." },
  unknown: { tone: "idle", word: "unknown", shape: RING, meaning: "Not heard of yet." },
  down: { tone: "bad", word: "down", shape: CROSS, meaning: "Does not answer probes." },
};

/** A node's lease on a realm's purges; its word is its age, where it has one. */
export const LEASE: Record<"young" | "old" | "none" | "stopped", Look> = {
  young: { tone: "good", word: "young", shape: CIRCLE, meaning: "So long ago it was sure to have heard of every purge." },
  old: { tone: "warn", word: "old", shape: TRIANGLE, meaning: "It has not heard of a majority of the witnesses since; routes with a bound ask the origin." },
  none: { tone: "bad", word: "none", shape: CROSS, meaning: "Since its start it was never sure to have heard of every purge." },
  stopped: { tone: "bad", word: "disk failed", shape: SQUARE, meaning: "It takes no purges, as its ledger's disk failed." },
};

export const RECEIPT: Record<PurgeNodeState, Look> = {
  applied: { tone: "good", word: "applied", shape: CIRCLE, meaning: "In effect on this node." },
  fenced: { tone: "warn", word: "fenced", shape: SQUARE, meaning: "Out of reach; it serves nothing until it has caught up." },
  pending: { tone: "idle", word: "pending", shape: RING, meaning: "Not heard from yet." },
};
