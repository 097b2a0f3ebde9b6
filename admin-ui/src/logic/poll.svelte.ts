/** Asks for something again and again while a screen is open. One question at a time, never while nobody looks. */

import { SessionEnded, Unreachable } from "../api/client";
import { pauseMs } from "./backoff";

const ANSWER_MAX_MS = 8_000;

/** How the asking goes, whatever is asked for. */
export type Standing = Pick<Poll<unknown>, "answeredAt" | "failingSince" | "problem" | "nextAt" | "now">;

export class Poll<T> {
  /** The last answer; kept while later questions fail. */
  data: T | undefined = $state.raw();
  /** When it came, by this browser's clock. */
  answeredAt: number | undefined = $state();
  /** Since when no answer came; none while they come. */
  failingSince: number | undefined = $state();
  /** Why the last question failed. */
  problem: string | undefined = $state();
  /** When the next question is asked. */
  nextAt = $state(0);

  #ask: (signal: AbortSignal, last: T | undefined) => Promise<T>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #question: AbortController | undefined;
  #failures = 0;
  #running = false;

  /** `ask` is given the last answer, for what it wants to be told about. */
  constructor(ask: (signal: AbortSignal, last: T | undefined) => Promise<T>) {
    this.#ask = ask;
  }

  /** Asks now and from then on; the result stops it. For use in `$effect`. */
  start(): () => void {
    this.#running = true;
    document.addEventListener("visibilitychange", this.#seen);
    void this.#turn();
    return () => this.stop();
  }

  stop(): void {
    this.#running = false;
    document.removeEventListener("visibilitychange", this.#seen);
    clearTimeout(this.#timer);
    this.#question?.abort();
  }

  /** Asks at once, if no question is under way. */
  now = (): void => {
    if (this.#question || !this.#running) return;
    clearTimeout(this.#timer);
    void this.#turn();
  };

  #seen = (): void => {
    if (!document.hidden) this.now();
  };

  async #turn(): Promise<void> {
    const question = new AbortController();
    this.#question = question;
    const late = setTimeout(() => question.abort(), ANSWER_MAX_MS);
    let retryAfterS: number | undefined;
    const began = Date.now();
    try {
      this.data = await this.#ask(question.signal, this.data);
      this.answeredAt = Date.now();
      this.failingSince = this.problem = undefined;
      this.#failures = 0;
    } catch (error) {
      if (!this.#running || error instanceof SessionEnded) return;
      this.#failures += 1;
      this.failingSince ??= this.answeredAt ?? Date.now();
      this.problem = error instanceof Error ? error.message : String(error);
      retryAfterS = error instanceof Unreachable ? error.retryAfterS : undefined;
    } finally {
      clearTimeout(late);
      this.#question = undefined;
    }
    if (!this.#running) return;
    const pause = pauseMs({ failures: this.#failures, tookMs: Date.now() - began, chance: Math.random(), retryAfterS });
    this.nextAt = Date.now() + pause;
    this.#timer = setTimeout(() => this.#due(), pause);
  }

  /** A hidden tab asks nothing; it asks as soon as it is seen again. */
  #due(): void {
    if (!document.hidden) void this.#turn();
  }
}
