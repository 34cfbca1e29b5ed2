// What Telegram puts into the address of a page that a bot opens, signed as Telegram signs it.

import { createHmac, randomBytes } from 'node:crypto';

export const BOT = { id: 4242, token: '4242:AAtests-of-the-page-sign-with-this-token' };

const hmac = (key, text) => createHmac('sha256', key).update(text).digest();

/** Signed for a user, new each time. */
export function initData(user, { bot = BOT, age = 0, ...more } = {}) {
  const fields = new URLSearchParams({
    query_id: `AA${randomBytes(8).toString('hex')}`,
    user: JSON.stringify({ id: user, first_name: 'Ада & Co', language_code: 'en' }),
    auth_date: String(Math.floor(Date.now() / 1000) - age),
    ...more,
  });
  const text = [...fields].map(([name, value]) => `${name}=${value}`).sort().join('\n');
  fields.set('hash', hmac(hmac('WebAppData', bot.token), text).toString('hex'));
  return fields.toString();
}

/** As Telegram's apps on phones send them. */
export const THEMES = {
  light: {
    bg_color: '#ffffff', secondary_bg_color: '#f0f0f0', text_color: '#222222', hint_color: '#a8a8a8',
    link_color: '#2678b6', button_color: '#50a8eb', button_text_color: '#ffffff', section_bg_color: '#ffffff',
    subtitle_text_color: '#82868a', destructive_text_color: '#cc2929',
  },
  dark: {
    bg_color: '#212d3b', secondary_bg_color: '#151e27', text_color: '#ffffff', hint_color: '#7d8b99',
    link_color: '#5eabe1', button_color: '#50a8eb', button_text_color: '#ffffff', section_bg_color: '#1d2733',
    subtitle_text_color: '#79889a', destructive_text_color: '#ee686f',
  },
};

/** The address that Telegram opens; without `app` it names none. */
export function address(origin, { data, app, theme }) {
  const said = new URLSearchParams({ tgWebAppVersion: '8.0', tgWebAppPlatform: 'android' });
  if (data !== undefined) {
    said.set('tgWebAppData', data);
  }
  if (theme) {
    said.set('tgWebAppThemeParams', JSON.stringify(THEMES[theme]));
  }
  return `${origin}/miniapp/${app === undefined ? '' : `?app_id=${app}`}#${said}`;
}
