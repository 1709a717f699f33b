// A viewer's program in a browser: dicomweb-client in a page of one origin, asking a DICOMweb service of another.
//
//   node web_client.js '{"page": "http://...", "service": "http://.../dicom-web", "chromium": "...", "calls": [...]}'
//
// A call is {"method": "searchForStudies", "options": {...}}; "files" in the options are base64. An answer is {"value":
// ...} with what is binary as base64, or {"status": ...} of the refusal. One line of JSON with all of them.
'use strict';

const { readFileSync } = require('node:fs');
const { chromium } = require('playwright-core');

const SCRIPT = readFileSync(require.resolve('dicomweb-client'), 'utf8');
const FLAGS = [
  '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage',
];

const callAll = async ([service, calls]) => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0)).buffer;
  const plain = (value) => {
    if (value instanceof ArrayBuffer) {
      return btoa(Array.from(new Uint8Array(value), (each) => String.fromCharCode(each)).join(''));
    }
    return Array.isArray(value) ? value.map(plain) : value;
  };
  const client = new window.DICOMwebClient.api.DICOMwebClient({ url: service, verbose: false });
  const answers = [];
  for (const { method, options } of calls) {
    if (options.files) options.datasets = options.files.map(bytesOf);
    try {
      answers.push({ value: plain(await client[method](options)) });
    } catch (error) {
      answers.push({ status: error.status ?? -1, message: String(error) });
    }
  }
  return answers;
};

async function main(wanted) {
  const browser = await chromium.launch({ executablePath: wanted.chromium, args: FLAGS });
  try {
    const page = await browser.newPage();
    await page.goto(wanted.page);
    await page.addScriptTag({ content: SCRIPT });
    const answers = await page.evaluate(callAll, [wanted.service, wanted.calls]);
    process.stdout.write(`${JSON.stringify(answers)}\n`);
  } finally {
    await browser.close();
  }
}

main(JSON.parse(process.argv[2]));
