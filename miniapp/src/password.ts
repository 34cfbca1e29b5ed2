// The second step: the password that protects the account.

import { element, write } from './elements';
import type { Problem, Screen } from './login';
import type { Text } from './text';
import { heading, type Actions, type Foot, type Panel } from './view';

export function passwordPanel(
  text: Text,
  actions: Actions,
  foot: Foot,
): Panel<Extract<Screen, { kind: 'password' }>> {
  const field = element('input', {
    id: 'password', name: 'password', type: 'password', autocomplete: 'current-password', autocapitalize: 'off',
    autocorrect: 'off', spellcheck: 'false', enterkeyhint: 'go', maxlength: '1024',
    'aria-describedby': 'hint attempts problem',
  });
  const reveal = element('button', { type: 'button', class: 'reveal', 'aria-controls': 'password' });
  const hint = element('p', { id: 'hint', class: 'note' });
  const attempts = element('p', { id: 'attempts', class: 'note' });
  const problem = element('p', { id: 'problem', class: 'problem', role: 'alert' });
  const send = element('button', { type: 'submit', class: 'button main' });
  const form = element('form', { class: 'card', novalidate: '' },
    element('label', { for: 'password' }, text.passwordLabel),
    element('div', { class: 'field' }, field, reveal),
    problem, hint, attempts, send,
  );

  const setReveal = (open: boolean) => {
    field.type = open ? 'text' : 'password';
    reveal.setAttribute('aria-label', open ? text.passwordHide : text.passwordShow);
    reveal.setAttribute('aria-pressed', String(open));
    reveal.replaceChildren(eye(open));
  };
  setReveal(false);
  reveal.addEventListener('click', () => {
    setReveal(field.type === 'password');
    field.focus();
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    actions.submit(field.value);
  });

  let shown: Problem | undefined;
  return {
    root: element('section', { class: 'narrow' },
      element('header', { class: 'lead' }, heading(text.passwordTitle), element('p', {}, text.passwordLead)),
      form, foot.root),
    focus: field,
    spoken: `${text.passwordTitle}. ${text.passwordLead}`,
    update: (screen) => {
      foot.update(screen.login);
      field.readOnly = screen.sending;
      send.disabled = screen.sending;
      form.setAttribute('aria-busy', String(screen.sending));
      write(send, screen.sending ? text.passwordSending : text.passwordSend);
      write(hint, screen.hint === undefined ? '' : text.passwordHint(screen.hint));
      write(attempts, screen.attemptsLeft === undefined ? '' : text.passwordAttempts(screen.attemptsLeft));
      write(problem, words(text, screen.problem));
      field.setAttribute('aria-invalid', String(screen.problem?.kind === 'wrong'));
      if (screen.problem !== shown) {
        shown = screen.problem;
        if (shown) {
          field.focus();
          field.select();
        }
      }
    },
    tick: foot.tick,
  };
}

function words(text: Text, problem: Problem | undefined): string {
  switch (problem?.kind) {
    case undefined:
      return '';
    case 'wrong':
      return text.passwordWrong;
    case 'empty':
      return text.passwordEmpty;
    case 'notSent':
      return text.passwordNotSent;
    case 'wait':
      return text.passwordWait(problem.wait);
  }
}

function eye(open: boolean): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(space, 'svg');
  picture.setAttribute('viewBox', '0 0 24 24');
  picture.setAttribute('aria-hidden', 'true');
  const lines = ['M2.5 12S6 5.8 12 5.8 21.5 12 21.5 12 18 18.2 12 18.2 2.5 12 2.5 12z', 'M12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z'];
  for (const line of open ? [...lines, 'M4 4l16 16'] : lines) {
    const path = document.createElementNS(space, 'path');
    path.setAttribute('d', line);
    picture.append(path);
  }
  return picture;
}
