// A browser at a workstation: opens one page in Chromium with a client certificate, and says what was drawn and asked.
//
//   node browser.js '{"url": "...", "chromium": "...", "certificate": "...", "key": "...", "picture": "out.png",
//                     "canvases": 1, "text": ["..."], "timeout_ms": 60000}'
//
// Waits until so many canvases show something, and until the page says each of these texts. One line of JSON: "drawn"
// (the number of grey levels or colours on each canvas), "text" (what the page says), "requests" (method, address,
// status and type of each, or how it failed), "violations" (of the page's security policy) and "errors" of its scripts.
'use strict';

const { chromium } = require('playwright-core');

const FLAGS = [
  // As root in a container there is no sandbox to be had; and nothing is fetched but what the page fetches.
  '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
];

// How many different pixels each canvas shows; a canvas of WebGL is copied before it can be read.
const countShades = () =>
  Array.from(document.querySelectorAll('canvas'), (canvas) => {
    if (!canvas.width || !canvas.height) return 0;
    const copy = document.createElement('canvas');
    [copy.width, copy.height] = [canvas.width, canvas.height];
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    return new Set(new Uint32Array(context.getImageData(0, 0, copy.width, copy.height).data.buffer)).size;
  });

const hasDrawn = ([count, texts, source]) => {
  const shades = new Function(`return (${source})()`)();
  const said = document.body.innerText;
  const isThere = shades.filter((each) => each > 8).length >= count && texts.every((each) => said.includes(each));
  return isThere && shades;
};

async function main(wanted) {
  const browser = await chromium.launch({ executablePath: wanted.chromium, args: FLAGS });
  try {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 900 },
      ignoreHTTPSErrors: true, // The certificate of a test region's own authority.
      clientCertificates: [
        { origin: new URL(wanted.url).origin, certPath: wanted.certificate, keyPath: wanted.key },
      ],
    });
    const page = await context.newPage();
    const requests = [];
    const violations = [];
    const errors = [];
    page.on('requestfailed', (request) => {
      requests.push({ method: request.method(), url: request.url(), failed: request.failure()?.errorText ?? '' });
    });
    page.on('response', (response) => {
      const [request, headers] = [response.request(), response.headers()];
      requests.push({
        method: request.method(), url: response.url(), status: response.status(), type: headers['content-type'] ?? '',
      });
    });
    page.on('console', (message) => {
      if (/Content Security Policy|Cross-Origin/.test(message.text())) violations.push(message.text());
      else if (wanted.verbose) errors.push(`${message.type()}: ${message.text()}`);
    });
    page.on('pageerror', (error) => errors.push(String(error)));
    const answer = { drawn: [], text: '', requests, violations, errors, waited: '' };
    try {
      await page.goto(wanted.url, { timeout: wanted.timeout_ms });
      const condition = [wanted.canvases, wanted.text ?? [], countShades.toString()];
      const drawn = await page.waitForFunction(hasDrawn, condition, { timeout: wanted.timeout_ms, polling: 500 });
      answer.drawn = await drawn.jsonValue();
    } catch (error) {
      answer.waited = String(error).split('\n')[0];
    }
    answer.text = await page.evaluate(() => document.body.innerText).catch(() => '');
    if (wanted.picture) await page.screenshot({ path: wanted.picture });
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  } finally {
    await browser.close();
  }
}

main(JSON.parse(process.argv[2]));
