// A foreign requestor: one association with one request for each one named, and what came back as a line of JSON.
//
//   node client.js '{"port": 11112, "calling": "RZ1_PACS", "called": "GATEWAY", "requests": [...], "tls": {...}}'
//
// A request is {"kind": "echo"}, {"kind": "find", "level": "STUDY", "keys": {...}}, {"kind": "store", "file": "..."},
// {"kind": "get", "study": "..."} or {"kind": "move", "study": "...", "to": "..."}. An answer is {"statuses": [...],
// "rows": [...]}; "ended" says how the association ended if not by a release, "received" what came by C-GET.
'use strict';

const { readFileSync } = require('node:fs');
const { Client, requests, responses, constants, log } = require('dcmjs-dimse');

const LEVELS = {
  PATIENT: requests.CFindRequest.createPatientFindRequest,
  STUDY: requests.CFindRequest.createStudyFindRequest,
  SERIES: requests.CFindRequest.createSeriesFindRequest,
  IMAGE: requests.CFindRequest.createImageFindRequest,
};

function requested({ kind, level, keys, file, study, to }) {
  if (kind === 'echo') return new requests.CEchoRequest();
  if (kind === 'store') return new requests.CStoreRequest(file);
  if (kind === 'get') return requests.CGetRequest.createStudyGetRequest(study);
  if (kind === 'move') return requests.CMoveRequest.createStudyMoveRequest(to, study);
  return LEVELS[level](keys);
}

log.setLevel('silent');
const wanted = JSON.parse(process.argv[2]);
const received = [];
const answers = wanted.requests.map(() => ({ statuses: [], rows: [] }));
let ended = '';
let isReleased = false;

const client = new Client();
wanted.requests.forEach((each, number) => {
  const request = requested(each);
  request.on('response', (response) => {
    answers[number].statuses.push(response.getStatus());
    if (response.hasDataset()) answers[number].rows.push(response.getDataset().getElements());
  });
  client.addRequest(request);
});
client.on('cStoreRequest', (request, answer) => {
  received.push(request.getAffectedSopInstanceUid());
  const response = responses.CStoreResponse.fromRequest(request);
  response.setStatus(constants.Status.Success);
  answer(response);
});
client.on('associationReleased', () => (isReleased = true));
// Behind several requests dcmjs asks twice for the release, and fails at writing the second time: its own affair.
client.on('networkError', (error) => isReleased || (ended ||= `error: ${error.code ?? error.message}`));
client.on('associationRejected', (reject) => (ended = `rejected: ${reject.result}/${reject.source}/${reject.reason}`));
client.on('abort', () => (ended = 'aborted'));
client.on('closed', () => process.stdout.write(`${JSON.stringify({ answers, ended, received })}\n`));

const options = { asyncOps: { maxAsyncOpsInvoked: 1, maxAsyncOpsPerformed: 1 } };
if (wanted.tls) {
  const { key, certificate, authority, maxVersion } = wanted.tls;
  options.securityOptions = { ca: readFileSync(authority), rejectUnauthorized: true, maxVersion };
  if (key) Object.assign(options.securityOptions, { key: readFileSync(key), cert: readFileSync(certificate) });
}
client.send('127.0.0.1', wanted.port, wanted.calling, wanted.called, options);
