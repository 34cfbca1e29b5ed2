// What Telegram tells a page that it opens, and the few things the page tells Telegram.
//
// Telegram's own script is not loaded: the page takes nothing from other hosts.

import { object } from './status';

export interface Launch {
  /** As Telegram signed it: a query string. Empty outside of Telegram. */
  initData: string;
  appId: string | undefined;
  theme: Record<string, string>;
}

/** Reads the address of the page. Telegram puts what it says behind the `#`. */
export function readLaunch(hash: string, search: string): Launch {
  // A route of the page may stand before what Telegram says.
  const said = new URLSearchParams(hash.replace(/^#/, '').replace(/^[^=&]*\?/, ''));
  const asked = new URLSearchParams(search);
  const initData = said.get('tgWebAppData') ?? '';
  const signed = new URLSearchParams(initData);
  const user = object(parseJson(signed.get('user') ?? ''))?.['id'];
  const names = [
    // One button for everybody may lead each user to an app of their own.
    asked.get('app_id')?.replace('{user_id}', String(user ?? '')) ?? null,
    asked.get('tgWebAppStartParam'),
    said.get('tgWebAppStartParam'),
    signed.get('start_param'),
  ];
  return {
    initData: /(^|&)hash=/.test(initData) ? initData : '',
    appId: names.find((name): name is string => name !== null && isAppId(name)),
    theme: readTheme(parseJson(said.get('tgWebAppThemeParams') ?? '')),
  };
}

export function isAppId(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name);
}

/** Colours by their names; what is no text is left out. */
export function readTheme(value: unknown): Record<string, string> {
  const theme: Record<string, string> = {};
  for (const [name, colour] of Object.entries(object(value) ?? {})) {
    if (typeof colour === 'string') {
      theme[name] = colour;
    }
  }
  return theme;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

type Listener = (data: Record<string, unknown>) => void;

interface Host extends Window {
  /** Telegram's apps on phones and desktops. */
  TelegramWebviewProxy?: { postEvent(name: string, data: string): void };
  /** Where they deliver, by the version of the app. */
  Telegram?: { WebView?: { receiveEvent?: (name: string, data: unknown) => void } };
  TelegramGameProxy?: { receiveEvent?: (name: string, data: unknown) => void };
  TelegramGameProxy_receiveEvent?: (name: string, data: unknown) => void;
}

/** The way to the app around the page. Where there is none, nothing happens. */
export class Bridge {
  private readonly listeners = new Map<string, Listener>();

  constructor(private readonly host: Host) {
    const receive = (name: string, data: unknown) => this.listeners.get(name)?.(object(data) ?? {});
    host.Telegram = { ...host.Telegram, WebView: { ...host.Telegram?.WebView, receiveEvent: receive } };
    host.TelegramGameProxy = { ...host.TelegramGameProxy, receiveEvent: receive };
    host.TelegramGameProxy_receiveEvent = receive;
    // Telegram's web versions hold the page in a frame.
    host.addEventListener('message', (event) => {
      if (event.source === host.parent && event.source !== host && typeof event.data === 'string') {
        const message = object(parseJson(event.data));
        const name = message?.['eventType'];
        if (typeof name === 'string') {
          receive(name, message?.['eventData']);
        }
      }
    });
  }

  /** Whether some app of Telegram is around the page. */
  get inside(): boolean {
    return this.host.TelegramWebviewProxy !== undefined || this.notify !== undefined || this.framed;
  }

  on(name: string, listener: Listener): void {
    this.listeners.set(name, listener);
  }

  ready(): void {
    if (this.framed) {
      this.post('iframe_ready', { reload_supported: false });
    }
    this.post('web_app_ready', {});
    this.post('web_app_expand', {});
    this.post('web_app_request_theme', {});
    this.post('web_app_set_header_color', { color_key: 'secondary_bg_color' });
    this.post('web_app_set_background_color', { color: 'secondary_bg_color' });
  }

  close(): void {
    this.post('web_app_close', {});
  }

  private get framed(): boolean {
    return this.host.parent !== this.host;
  }

  /** Telegram's apps on Windows. */
  private get notify(): ((message: string) => void) | undefined {
    const external = (this.host as { external?: { notify?: unknown } }).external;
    return external && 'notify' in external && typeof external.notify === 'function'
      ? (message) => (external.notify as (message: string) => void)(message)
      : undefined;
  }

  private post(name: string, data: Record<string, unknown>): void {
    const { TelegramWebviewProxy: proxy, parent } = this.host;
    const message = JSON.stringify({ eventType: name, eventData: data });
    if (proxy) {
      proxy.postEvent(name, JSON.stringify(data));
    } else if (this.notify) {
      this.notify(message);
    } else if (this.framed) {
      // To whoever frames the page: that is limited by its policy, and none of the messages is a secret.
      parent.postMessage(message, '*');
    }
  }
}
