/** The time, once a second, for what is shown as an age. */

class Ticking {
  now = $state(Date.now());

  constructor() {
    setInterval(() => (this.now = Date.now()), 1_000);
  }
}

export const ticking = new Ticking();
