/** The admin token: in this tab's session storage only, and in no URL. */

import { takeToken } from "./route";

const KEY = "meridian.token";

class Session {
  token: string | undefined = $state();
  /** Why the operator has to log in (again). */
  notice: string | undefined = $state();

  /** Takes the token from `#token=...`, which is removed from the URL, or from the storage. */
  begin(): void {
    const given = takeToken(location.hash);
    if (given) {
      history.replaceState(null, "", given.rest);
      this.login(given.token);
    } else {
      this.token = sessionStorage.getItem(KEY) ?? undefined;
    }
  }

  login(token: string): void {
    sessionStorage.setItem(KEY, token);
    this.token = token;
    this.notice = undefined;
  }

  logout(notice?: string): void {
    sessionStorage.removeItem(KEY);
    this.token = undefined;
    this.notice = notice;
  }
}

export const session = new Session();
