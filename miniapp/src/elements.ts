// Pieces of the page. Text becomes text, never markup.

type Child = Node | string;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function button(label: string, look: 'main' | 'quiet', press: () => void): HTMLButtonElement {
  const made = element('button', { type: 'button', class: `button ${look}` }, label);
  made.addEventListener('click', press);
  return made;
}

/** Writes only what is new, so that nothing is read out twice. */
export function write(place: HTMLElement, text: string): void {
  if (place.textContent !== text) {
    place.textContent = text;
  }
}

const MARKS = {
  good: ['M7 12.5l3.5 3.5L17 9'],
  calm: ['M12 7v5.5l3.5 2'],
  bad: ['M12 7v6', 'M12 16.6v.01'],
};

export type Mark = keyof typeof MARKS;

/** A sign beside words that say the same, so it is not read out. */
export function sign(mark: Mark): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(space, 'svg');
  picture.setAttribute('viewBox', '0 0 24 24');
  picture.setAttribute('aria-hidden', 'true');
  picture.setAttribute('class', `sign ${mark}`);
  for (const line of MARKS[mark]) {
    const path = document.createElementNS(space, 'path');
    path.setAttribute('d', line);
    picture.append(path);
  }
  return picture;
}
