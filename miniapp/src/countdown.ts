// Time that is left, by a clock that nobody sets.

/** A moment of `performance.now()`, and how long the whole wait for it is. Both in milliseconds. */
export interface Deadline {
  at: number;
  span: number;
}

export function deadlineIn(seconds: number, now: number, span = seconds * 1000): Deadline {
  return { at: now + seconds * 1000, span: Math.max(span, seconds * 1000) };
}

/** Whole seconds that are left: 1 until the very end, then 0. */
export function secondsLeft(deadline: Deadline, now: number): number {
  return Math.max(0, Math.ceil((deadline.at - now) / 1000));
}

/** From 1, all of the time is left, to 0. */
export function shareLeft(deadline: Deadline, now: number): number {
  return deadline.span > 0 ? Math.min(1, Math.max(0, (deadline.at - now) / deadline.span)) : 0;
}

/** `9:05`, as a clock shows it. */
export function clock(seconds: number): string {
  const two = (number: number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = two(Math.floor(seconds) % 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

/** What a screen reader is told of a bar that empties: in steps, so that it is not told every second. */
export function spokenSeconds(seconds: number, step = 10): number {
  return Math.ceil(seconds / step) * step;
}
