// The code: its picture, the time it lives, and the same link for those who sit on the phone.

import { secondsLeft, shareLeft, spokenSeconds, type Deadline } from './countdown';
import { element, write } from './elements';
import type { Screen } from './login';
import type { Text } from './text';
import { heading, type Foot, type Panel } from './view';

export function qrPanel(text: Text, foot: Foot): Panel<Extract<Screen, { kind: 'qr' }>> {
  let token: Deadline | undefined;
  const picture = element('img', { class: 'qr', alt: text.qrPicture, width: '232', height: '232' });
  const fill = element('span', { class: 'fill' });
  const bar = element('div', {
    class: 'bar', role: 'progressbar', 'aria-label': text.qrTime, 'aria-valuemin': '0',
  }, fill);
  const next = element('p', { class: 'next' });
  const open = element('a', { class: 'button main' }, text.openButton);

  const root = element('section', {},
    element('header', { class: 'lead' }, heading(text.qrTitle), element('p', {}, text.qrLead)),
    element('div', { class: 'columns' },
      element('div', { class: 'card code' }, element('div', { class: 'paper' }, picture), bar, next),
      element('div', { class: 'ways' },
        element('div', { class: 'card' },
          element('h2', {}, text.openTitle), open, element('p', { class: 'note' }, text.openNote)),
        element('div', { class: 'card' },
          element('h2', {}, text.scanTitle),
          element('ol', {}, ...text.scanSteps.map((step) => element('li', {}, step)))))),
    foot.root,
  );

  const tick = (now: number) => {
    foot.tick(now);
    const seconds = token && secondsLeft(token, now);
    bar.hidden = seconds === undefined;
    picture.classList.toggle('old', seconds === 0);
    write(next, seconds === undefined ? '' : seconds > 0 ? text.qrNext(seconds) : text.qrDrawing);
    if (token && seconds !== undefined) {
      fill.style.transform = `scaleX(${shareLeft(token, now)})`;
      tell(bar, text, spokenSeconds(seconds), token);
    }
  };

  return {
    root,
    update: (screen) => {
      token = screen.token;
      foot.update(screen.login);
      const source = `data:image/png;base64,${screen.qr.png}`;
      if (picture.src !== source) {
        picture.src = source;
      }
      open.href = screen.qr.url;
    },
    tick,
    spoken: `${text.qrTitle}. ${text.qrLead}`,
  };
}

/** In steps: a value that changes every second is read out every second. */
function tell(bar: HTMLElement, text: Text, seconds: number, token: Deadline): void {
  const value = String(seconds);
  if (bar.getAttribute('aria-valuenow') !== value) {
    bar.setAttribute('aria-valuemax', String(spokenSeconds(token.span / 1000)));
    bar.setAttribute('aria-valuenow', value);
    bar.setAttribute('aria-valuetext', text.qrTimeLeft(seconds));
  }
}
