/** How long a screen waits before it asks again: in step while answers come, ever longer while they do not. */

export const EVERY_MS = 1_000;
export const WAIT_MAX_MS = 15_000;
/** The shortest pause, also after an answer that took long or brought news. */
export const PAUSE_MIN_MS = 100;

export interface Asked {
  /** Failures in a row; 0 after an answer. */
  failures: number;
  /** How long the last question took. */
  tookMs: number;
  /** 0 to 1: screens that lost the same node at the same moment do not all come back at the same moment. */
  chance: number;
  /** When the server said to come again, which is believed. */
  retryAfterS?: number | undefined;
}

/** The pause before the next question. While answers come, questions begin once in a step. */
export function pauseMs({ failures, tookMs, chance, retryAfterS }: Asked): number {
  if (failures === 0) return Math.max(EVERY_MS - tookMs, PAUSE_MIN_MS);
  const grown = Math.min(EVERY_MS * 2 ** Math.min(failures - 1, 10), WAIT_MAX_MS);
  return Math.max(grown * (0.75 + chance * 0.5), (retryAfterS ?? 0) * 1_000);
}
