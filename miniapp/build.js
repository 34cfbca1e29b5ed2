// Builds the page into dist/, which the service carries in its binary.
//
//   node build.js           writes dist/
//   node build.js --stale   fails when dist/ is not what the sources make
//   node build.js --tests   writes the tests, ready to run, into build/

import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, 'dist');

// Telegram opens the page in the system's WebView, which on old phones is years behind.
const target = ['es2020', 'chrome86', 'safari14.1', 'firefox90'];

async function page() {
  const { outputFiles } = await build({
    absWorkingDir: here,
    entryPoints: { 'app': 'src/main.ts', 'app.css': 'src/page.css' },
    entryNames: '[name]',
    outdir: dist,
    bundle: true,
    format: 'iife',
    minify: true,
    charset: 'utf8',
    legalComments: 'none',
    target,
    write: false,
    logLevel: 'warning',
  });
  const files = new Map([['index.html', await readFile(join(here, 'src/index.html'), 'utf8')]]);
  for (const { path, text } of outputFiles) {
    files.set(path.endsWith('.css') ? 'app.css' : 'app.js', text);
  }
  return files;
}

async function write() {
  await mkdir(dist, { recursive: true });
  for (const [name, text] of await page()) {
    await writeFile(join(dist, name), text);
    console.log(`dist/${name}: ${Buffer.byteLength(text)} bytes`);
  }
}

async function stale() {
  const wanted = await page();
  const found = await readdir(dist);
  const wrong = found.filter((name) => !wanted.has(name));
  for (const [name, text] of wanted) {
    if (!found.includes(name) || (await readFile(join(dist, name), 'utf8')) !== text) {
      wrong.push(name);
    }
  }
  if (wrong.length > 0) {
    console.error(`dist/ is not what the sources make (${wrong.join(', ')}): run \`make page\` and commit it`);
    process.exitCode = 1;
  }
}

async function tests() {
  const out = join(here, 'build');
  await rm(out, { recursive: true, force: true });
  const names = (await readdir(join(here, 'test'))).filter((name) => name.endsWith('.test.ts'));
  await build({
    absWorkingDir: here,
    entryPoints: names.map((name) => `test/${name}`),
    outdir: out,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
}

await ({ '--stale': stale, '--tests': tests }[process.argv[2]] ?? write)();
