// The Mini App: signs a Telegram account in for the bot that opened the page.

import { httpApi } from './api';
import { Login } from './login';
import { memoryFor } from './memory';
import { Bridge, readLaunch, readTheme } from './telegram';
import { textFor } from './text';
import { paint, palette } from './theme';
import { View } from './view';

const launch = readLaunch(location.hash, location.search);
const text = textFor(navigator.language);
const bridge = new Bridge(window);
const now = () => performance.now();

let theme = launch.theme;
const dark = matchMedia('(prefers-color-scheme: dark)');
const repaint = () => paint(document.documentElement, palette(theme, dark.matches));
dark.addEventListener('change', repaint);
bridge.on('theme_changed', (data) => {
  theme = readTheme(data['theme_params']);
  repaint();
});
bridge.on('viewport_changed', ({ height }) => {
  if (typeof height === 'number' && height > 0) {
    document.documentElement.style.setProperty('--height', `${height}px`);
  }
});
repaint();

async function run(): Promise<void> {
  let login: Login | undefined;
  let begin = () => undefined as void;
  const view = new View(text, {
    submit: (password) => void login?.submit(password),
    cancel: () => void login?.cancel(),
    again: () => begin(),
    close: bridge.inside ? () => bridge.close() : undefined,
  }, now);

  const { initData, appId } = launch;
  if (initData === '' || appId === undefined) {
    view.show({ kind: 'end', ending: { outcome: initData === '' ? 'outside' : 'appMissing' } });
    return;
  }
  login = new Login({
    api: httpApi('../api/qr/'),
    memory: await memoryFor(initData),
    show: (screen) => view.show(screen),
    showLink: (link) => view.showLink(link),
    now,
    sleep,
  });
  const current = login;
  begin = () => void current.run(initData, appId);
  addEventListener('online', () => current.refresh());
  document.addEventListener('visibilitychange', () => document.hidden || current.refresh());
  begin();
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      done();
    });
  });
}

bridge.ready();
void run();
