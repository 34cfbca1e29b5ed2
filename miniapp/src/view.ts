// Shows the screens of a login. One kind of screen is built once and then only brought up to date, so that focus,
// what was typed and a screen reader's place stay where they are.

import { clock, secondsLeft, type Deadline } from './countdown';
import { element, sign, write, button, type Mark } from './elements';
import { isRepeatable, type Ending } from './endings';
import type { Link, Screen } from './login';
import { passwordPanel } from './password';
import { qrPanel } from './qr';
import type { Text } from './text';

/** What people can do. */
export interface Actions {
  submit(password: string): void;
  cancel(): void;
  again(): void;
  /** Where no app is around the page, it cannot be closed from within. */
  close: (() => void) | undefined;
}

/** A screen that is built. */
export interface Panel<S extends Screen = Screen> {
  root: HTMLElement;
  update(screen: S): void;
  /** Several times a second. */
  tick?(now: number): void;
  /** Where the keyboard should be when the screen appears. */
  focus?: HTMLElement;
  /** What a screen reader says when the screen appears. */
  spoken: string;
}

const TICK = 250;

export class View {
  private kind: Screen['kind'] | undefined;
  private panel: Panel | undefined;
  private link: Link = 'good';

  constructor(
    private readonly text: Text,
    private readonly actions: Actions,
    private readonly now: () => number,
  ) {
    document.documentElement.lang = text.language;
    document.title = text.qrTitle;
    setInterval(() => this.panel?.tick?.(this.now()), TICK);
    addEventListener('online', () => this.showLink(this.link));
    addEventListener('offline', () => this.showLink(this.link));
  }

  show(screen: Screen): void {
    if (screen.kind !== this.kind || !this.panel) {
      this.replace(screen);
    }
    this.panel?.update(screen);
    this.panel?.tick?.(this.now());
  }

  showLink(link: Link): void {
    this.link = link;
    const place = byId('link');
    const broken = link === 'broken' || !navigator.onLine;
    const trouble = navigator.onLine ? this.text.reconnecting : this.text.offline;
    // What has ended needs no connection.
    const words = broken && this.kind !== 'end' ? trouble : '';
    place.hidden = words === '';
    write(place, words);
  }

  private replace(screen: Screen): void {
    const page = byId('page');
    const focused = page.contains(document.activeElement);
    const panel = this.build(screen);
    this.kind = screen.kind;
    this.panel = panel;
    this.showLink(this.link);
    panel.root.classList.add('screen');
    page.replaceChildren(panel.root);
    write(byId('spoken'), panel.spoken);
    scrollTo(0, 0);
    const goal = panel.focus ?? (focused ? panel.root.querySelector('h1') : null);
    goal?.focus();
  }

  private build(screen: Screen): Panel {
    const { text, actions } = this;
    switch (screen.kind) {
      case 'busy':
        return this.busy();
      case 'qr':
        return qrPanel(text, this.foot()) as Panel;
      case 'password':
        return passwordPanel(text, actions, this.foot()) as Panel;
      case 'code':
        return this.code();
      case 'end':
        return this.end(screen.ending);
    }
  }

  private busy(): Panel {
    const root = element('section', { class: 'plain' });
    root.append(element('div', { class: 'wheel', 'aria-hidden': 'true' }), heading(this.text.busy));
    return { root, update: () => undefined, spoken: this.text.busy };
  }

  private code(): Panel {
    const { codeTitle, codeBody } = this.text;
    const foot = this.foot();
    const root = element('section', { class: 'plain' }, sign('calm'), heading(codeTitle), element('p', {}, codeBody));
    root.append(foot.root);
    return {
      root,
      update: (screen) => screen.kind === 'code' && foot.update(screen.login),
      tick: foot.tick,
      spoken: `${codeTitle}. ${codeBody}`,
    };
  }

  private end(ending: Ending): Panel {
    const { title, body } = this.text.endings[ending.outcome](ending);
    const root = element('section', { class: 'plain' }, sign(markOf(ending)), heading(title), element('p', {}, body));
    root.setAttribute('data-outcome', ending.outcome);
    if (ending.account !== undefined) {
      root.append(element('p', { class: 'note' }, this.text.account(ending.account)));
    }
    const again = isRepeatable(ending);
    if (again) {
      root.append(button(this.text.again, 'main', this.actions.again));
    }
    if (this.actions.close) {
      root.append(button(this.text.close, again ? 'quiet' : 'main', this.actions.close));
    }
    return { root, update: () => undefined, spoken: `${title}. ${body}` };
  }

  private foot(): Foot {
    return makeFoot(this.text, this.actions);
  }
}

/** When the whole login closes, and the way to end it before. */
export interface Foot {
  root: HTMLElement;
  update(login: Deadline | undefined): void;
  tick(now: number): void;
}

function makeFoot(text: Text, actions: Actions): Foot {
  let login: Deadline | undefined;
  const left = element('p', { class: 'note', role: 'timer' });
  const cancel = button(text.cancel, 'quiet', () => {
    cancel.disabled = true;
    write(cancel, text.cancelling);
    actions.cancel();
    // If nothing comes of it, it can be pressed again.
    setTimeout(() => {
      cancel.disabled = false;
      write(cancel, text.cancel);
    }, 5000);
  });
  return {
    root: element('footer', { class: 'foot' }, left, cancel),
    update: (deadline) => {
      login = deadline;
    },
    tick: (now) => {
      const seconds = login && secondsLeft(login, now);
      write(left, seconds === undefined ? '' : seconds > 0 ? text.closesIn(clock(seconds)) : text.closing);
    },
  };
}

/** It takes the focus when the screen before it had it. */
export function heading(words: string): HTMLElement {
  return element('h1', { tabindex: '-1' }, words);
}

function markOf({ outcome }: Ending): Mark {
  switch (outcome) {
    case 'authorized':
      return 'good';
    case 'expired':
    case 'cancelled':
    case 'superseded':
    case 'floodWait':
    case 'launchSpent':
      return 'calm';
    default:
      return 'bad';
  }
}

function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) {
    throw new Error(`the page has no #${id}`);
  }
  return found;
}
