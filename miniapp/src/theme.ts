// Telegram's colours, made readable: the theme decides, and is moved only as far as contrast asks (WCAG 2.2, AA).

export interface Palette {
  page: string;
  card: string;
  text: string;
  hint: string;
  link: string;
  button: string;
  buttonText: string;
  danger: string;
  line: string;
  dark: boolean;
}

type Colour = readonly [number, number, number];

/** Names as in Telegram's theme parameters. */
const LIGHT: Readonly<Record<string, string>> = {
  bg_color: '#ffffff', secondary_bg_color: '#efeff4', text_color: '#000000', hint_color: '#707579',
  link_color: '#2481cc', button_color: '#2481cc', button_text_color: '#ffffff', destructive_text_color: '#df3f40',
};
const DARK: Readonly<Record<string, string>> = {
  bg_color: '#1c1c1e', secondary_bg_color: '#000000', text_color: '#ffffff', hint_color: '#98989e',
  link_color: '#62bcf9', button_color: '#2ea6ff', button_text_color: '#ffffff', destructive_text_color: '#ff6259',
};

const BLACK: Colour = [0, 0, 0];
const WHITE: Colour = [255, 255, 255];
/** AA for text. */
const CONTRAST = 4.5;

/** `prefersDark` decides where Telegram says nothing of its theme. */
export function palette(params: Readonly<Record<string, string>>, prefersDark: boolean): Palette {
  const said = Object.fromEntries(Object.entries(params).filter(([, colour]) => parse(colour)));
  const background = parse(said['bg_color']);
  const dark = background ? luminance(background) < 0.25 : prefersDark;
  const named: Readonly<Record<string, string>> = {
    ...(dark ? DARK : LIGHT),
    ...(said['bg_color'] ? { secondary_bg_color: said['bg_color'] } : {}),
    ...said,
  };
  const of = (...names: string[]): Colour =>
    names.map((name) => parse(named[name])).find((colour) => colour) ?? (dark ? WHITE : BLACK);
  const page = of('secondary_bg_color');
  const card = of('section_bg_color', 'bg_color');
  const text = readable(of('text_color'), [card, page]);
  const buttonText = of('button_text_color');
  return {
    page: hex(page),
    card: hex(card),
    text: hex(text),
    hint: hex(readable(of('subtitle_text_color', 'hint_color'), [card, page])),
    link: hex(readable(of('link_color'), [card, page])),
    // The words on a button keep their colour: the button gives way.
    button: hex(readable(of('button_color'), [buttonText])),
    buttonText: hex(buttonText),
    danger: hex(readable(of('destructive_text_color'), [card, page])),
    line: hex(mix(card, text, 0.14)),
    dark,
  };
}

/** The nearest colour, towards black or white, that can be read on all of the backgrounds. */
export function readable(colour: Colour, backgrounds: readonly Colour[]): Colour {
  const reads = (candidate: Colour) => backgrounds.every((one) => contrast(candidate, one) >= CONTRAST);
  for (let step = 0; step <= 20; step += 1) {
    for (const goal of [BLACK, WHITE]) {
      const candidate = mix(colour, goal, step / 20);
      if (reads(candidate)) {
        return candidate;
      }
    }
  }
  return colour;
}

export function parse(text: string | undefined): Colour | undefined {
  const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text ?? '');
  return found ? [byte(found[1]), byte(found[2]), byte(found[3])] : undefined;
}

export function contrast(a: Colour, b: Colour): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

function luminance([red, green, blue]: Colour): number {
  const linear = (value: number) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
}

function mix(from: Colour, to: Colour, share: number): Colour {
  const part = (a: number, b: number) => Math.round(a + (b - a) * share);
  return [part(from[0], to[0]), part(from[1], to[1]), part(from[2], to[2])];
}

function hex(colour: Colour): string {
  return `#${colour.map((value) => value.toString(16).padStart(2, '0')).join('')}`;
}

function byte(digits: string | undefined): number {
  return Number.parseInt(digits ?? '0', 16);
}

/** By the object model: the page's policy knows no inline style. */
export function paint(root: HTMLElement, colours: Palette): void {
  const { dark, ...named } = colours;
  for (const [name, value] of Object.entries(named)) {
    root.style.setProperty(`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, value);
  }
  root.style.setProperty('color-scheme', dark ? 'dark' : 'light');
}
