/** The current route, as state: follows the URL, and changes it. */

import { formatHash, parseHash, type Route, type Screen } from "./route";

class Place {
  route: Route = $state.raw(parseHash(location.hash));

  constructor() {
    window.addEventListener("hashchange", () => (this.route = parseHash(location.hash)));
  }

  /** Opens a screen: a new entry in the history. */
  open(screen: Screen, params?: Record<string, string | undefined>): void {
    location.hash = formatHash(params ? { screen, params } : { screen });
  }

  /** Changes parameters of the current screen, in place. */
  set(changes: Record<string, string | undefined>): void {
    const hash = formatHash({ screen: this.route.screen, params: { ...this.route.params, ...changes } });
    history.replaceState(null, "", hash);
    this.route = parseHash(hash);
  }
}

export const place = new Place();
