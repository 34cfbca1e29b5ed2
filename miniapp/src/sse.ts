// Server-sent events, read from pieces that may end anywhere.

/** An event longer than this is none of ours. */
const LENGTH_MAX = 1_000_000;

/** Takes pieces of an event stream and gives the data of each complete event to `take`. */
export class EventReader {
  private readonly decoder = new TextDecoder();
  private line = '';
  private data: string[] = [];
  private length = 0;
  /** A line feed that follows belongs to the carriage return before it. */
  private returned = false;

  constructor(private readonly take: (data: string) => void) {}

  push(piece: Uint8Array): void {
    for (const character of this.decoder.decode(piece, { stream: true })) {
      const follows = this.returned && character === '\n';
      this.returned = character === '\r';
      if (follows) {
        continue;
      }
      if (character === '\n' || character === '\r') {
        this.end();
        continue;
      }
      this.line += character;
      this.length += 1;
      if (this.length > LENGTH_MAX) {
        throw new Error('an event is too long');
      }
    }
  }

  /** A line is complete. */
  private end(): void {
    const line = this.line;
    this.line = '';
    if (line !== '') {
      const [, field, value] = /^([^:]*)(?:: ?([^]*))?$/.exec(line) ?? [];
      if (field === 'data') {
        this.data.push(value ?? '');
      }
      return;
    }
    const data = this.data.join('\n');
    const any = this.data.length > 0;
    this.data = [];
    this.length = 0;
    if (any) {
      this.take(data);
    }
  }
}
