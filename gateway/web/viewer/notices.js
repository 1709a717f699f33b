// What the gateway says beside its answers, shown beside the images: a viewer that reads rows alone would hide it.
// The sentence that stands on every list (SAF-03), whom to ring about what may be missing (SAF-04, SAF-09), and a
// refusal in its words (SAF-02). Texts come from headers and problem bodies, and are never taken for markup.
((sentence, service) => {
  const TEXTS_MAX = 50;
  const said = new Set();
  const list = document.createElement('ul');
  const box = document.createElement('details');

  const say = (text) => {
    if (!text || said.has(text) || said.size >= TEXTS_MAX) return;
    said.add(text);
    const line = document.createElement('li');
    line.textContent = text;
    list.append(line);
    box.open = true;
  };

  const hear = (request) => {
    if (!String(request.responseURL).startsWith(`${service}/`)) return;
    const warnings = request.getResponseHeader('Warning') ?? '';
    for (const warning of warnings.split(/, (?=299 )/)) {
      const text = warning.replace(/^299 \S+: /, '');
      if (!text.startsWith('These parameters')) say(text);
    }
    if (request.status < 400 || !(request.getResponseHeader('Content-Type') ?? '').includes('problem+json')) return;
    const body = request.responseType === 'json' ? request.response : undefined;
    const text = ['', 'text'].includes(request.responseType) ? request.responseText : undefined;
    try {
      say((body ?? JSON.parse(text)).detail);
    } catch {
      say('The gateway could not answer: reload the page, or ring the PACS desk');
    }
  };

  const open = XMLHttpRequest.prototype.open;
  const status = Object.getOwnPropertyDescriptor(XMLHttpRequest.prototype, 'status').get;
  XMLHttpRequest.prototype.open = function (...parameters) {
    this.addEventListener('load', () => hear(this));
    // The dicomweb-client that is built into OHIF 3.13 takes 206 for a failure, and would show nothing of a study as soon
    // as one trust is silent. What is missing is said by the warnings that come with it.
    Object.defineProperty(this, 'status', {
      get: () => (status.call(this) === 206 ? 200 : status.call(this)), configurable: true,
    });
    return open.apply(this, parameters);
  };

  document.addEventListener('DOMContentLoaded', () => {
    const summary = document.createElement('summary');
    summary.textContent = sentence;
    box.id = 'gateway-notices';
    box.setAttribute('role', 'status');
    Object.assign(list.style, { margin: '6px 0 0', paddingLeft: '16px', listStyle: 'disc' });
    Object.assign(box.style, {
      position: 'fixed', left: '0', bottom: '0', width: '282px', maxHeight: '45vh', overflow: 'auto', zIndex: '40',
      boxSizing: 'border-box', padding: '8px', background: '#fff', color: '#212b32', font: '13px/1.4 Arial, sans-serif',
    });
    box.append(summary, list);
    document.body.append(box);
  });

  // OHIF's tour of its tools would stand in front of the first image that somebody opens.
  localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));
})
