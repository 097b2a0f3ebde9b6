/** How long a screen waits before it asks again: in step while answers come, ever longer while they do not. */

export const EVERY_MS = 1_000;
export const WAIT_MAX_MS = 15_000;

/**
 * The pause before the next question, after so many failures in a row. `chance` is 0 to 1: screens that lost the same node
 * at the same moment do not all come back at the same moment. A server that says when to come is believed.
 */
export function pauseMs(failures: number, chance: number, retryAfterS?: number): number {
  if (failures === 0) return EVERY_MS;
  const grown = Math.min(EVERY_MS * 2 ** Math.min(failures - 1, 10), WAIT_MAX_MS);
  return Math.max(grown * (0.75 + chance * 0.5), (retryAfterS ?? 0) * 1_000);
}
