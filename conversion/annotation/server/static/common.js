// What all views share: requests, names, frames as bitmaps, masks, colours. No library, no build step.

export const COLOURS = [[230, 60, 60], [40, 140, 240], [60, 190, 90], [245, 165, 30], [170, 90, 230], [20, 190, 190],
  [240, 100, 180], [150, 200, 40], [130, 110, 250], [220, 130, 90], [90, 160, 140], [200, 200, 60]];
export const colour = (i, alpha = 1) => `rgb(${COLOURS[i % COLOURS.length].join(' ')} / ${alpha})`;

export const $ = (selector, root = document) => root.querySelector(selector);

// An element with properties and children; texts become text nodes, so that nothing of the data is read as HTML.
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node && key !== 'list') node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function button(text, key, action, properties = {}) {
  const node = element('button', { type: 'button', ...properties }, element('span', {}, text));
  if (key) node.append(element('kbd', {}, key));
  node.addEventListener('click', action);
  return node;
}

export function say(text, note = false) {
  const box = $('#message');
  box.textContent = text;
  box.classList.toggle('note', note);
  box.hidden = !text;
}

export function annotator() {
  return sessionStorage.getItem('annotator') || '';
}

// Ask for a name where none is known in this tab; another tab may have another one.
export async function signIn(again = false) {
  if (annotator() && !again) return showName();
  const dialog = $('#ask-name');
  const input = $('#name');
  input.value = annotator() || localStorage.getItem('annotator') || '';
  dialog.addEventListener('cancel', (event) => { if (!annotator()) event.preventDefault(); });
  dialog.showModal();
  input.select();
  await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
  const name = input.value.trim();
  if (name) {
    sessionStorage.setItem('annotator', name);
    localStorage.setItem('annotator', name);
  }
  if (again) location.reload();
  return annotator() ? showName() : signIn();
}

// What this person holds is free for others when the page is closed.
window.addEventListener('pagehide', () => {
  if (!annotator()) return;
  const headers = { 'x-annotator': encodeURIComponent(annotator()), 'content-type': 'application/json' };
  fetch('/api/release', { method: 'POST', keepalive: true, headers, body: '{}' }).catch(() => {});
});

function showName() {
  const who = $('#who');
  who.textContent = annotator();
  who.onclick = () => signIn(true);
}

export class Refused extends Error {
  constructor(text, status) { super(text); this.status = status; }
}

// The JSON of an answer; a refusal is an error with the server's sentence, a silent server one with status 0.
export async function api(path, body) {
  const options = { headers: { 'x-annotator': encodeURIComponent(annotator()) } };
  if (body !== undefined) {
    options.method = 'POST';
    options.headers['content-type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused('The server does not answer. Is it still running?', 0);
  }
  const value = await response.json().catch(() => ({ error: `status ${response.status}` }));
  if (!response.ok) throw new Refused(value.error || `status ${response.status}`, response.status);
  return value;
}

// Run something and show what goes wrong.
export async function told(action) {
  try {
    const result = await action();
    say('');
    return result;
  } catch (error) {
    say(error.message);
    if (!(error instanceof Refused)) console.error(error);
    return null;
  }
}

// Frames as bitmaps, a bounded number of them; asked for twice, loaded once.
const MOST_BITMAPS = 48;
const bitmaps = new Map();
export function frame(clip, index) {
  const key = `${clip}/${index}`;
  let found = bitmaps.get(key);
  if (found) bitmaps.delete(key);
  else {
    found = load(clip, index);
    found.catch(() => bitmaps.delete(key));
  }
  bitmaps.set(key, found);
  if (bitmaps.size > MOST_BITMAPS) {
    const oldest = bitmaps.keys().next().value;
    bitmaps.get(oldest).then((bitmap) => bitmap.close(), () => {});
    bitmaps.delete(oldest);
  }
  return found;
}

async function load(clip, index) {
  const response = await fetch(`/api/frames/${clip}/${index}`, { headers: { 'x-annotator': encodeURIComponent(annotator()) } });
  if (!response.ok) {
    const value = await response.json().catch(() => ({}));
    throw new Refused(value.error || `frame ${index}: status ${response.status}`, response.status);
  }
  return createImageBitmap(await response.blob());
}

// Load frames in order, a few at a time.
export async function prefetch(pairs, together = 3) {
  const waiting = [...pairs];
  const work = async () => {
    for (let pair = waiting.shift(); pair; pair = waiting.shift()) await frame(...pair).catch(() => {});
  };
  await Promise.all(Array.from({ length: together }, work));
}

// A mask of runs (row by row, background first) as an image of one colour; with `outline`, its border is opaque.
export function maskImage(runs, width, height, rgb, alpha = 0.45) {
  const inside = new Uint8Array(width * height);
  let position = 0;
  runs.forEach((length, i) => {
    if (i % 2) inside.fill(1, position, position + length);
    position += length;
  });
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const packed = (a) => ((a << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0]) >>> 0;
  const fill = packed(Math.round(255 * alpha));
  const edge = packed(255);
  const thick = Math.max(1, Math.round(height / 300));
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      if (!inside[i]) continue;
      const border = x < thick || y < thick || x >= width - thick || y >= height - thick
        || !inside[i - thick] || !inside[i + thick] || !inside[i - thick * width] || !inside[i + thick * width];
      pixels[i] = border ? edge : fill;
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

// A cross with an open middle, dark and light, so that it is seen on every ground and hides nothing.
export function drawCross(context, x, y, size, line = 2) {
  for (const [style, width] of [['#000', line * 2.5], ['#fff', line]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, size, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * size, y + dy * size);
      context.lineTo(x + dx * size * 2.2, y + dy * size * 2.2);
    }
    context.stroke();
  }
  context.fillStyle = '#fff';
  context.fillRect(x - 1, y - 1, 2, 2);
}

const MARKS = { 1: ['#16c172', '+'], 0: ['#ff4d3d', '−'], '-1': ['#ffc83d', '?'] };

// A labelled point: a disk with its sign, so that colour is not the only difference.
export function drawPoint(context, x, y, label, radius, ring = '#000') {
  const [fill, sign] = MARKS[label];
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  context.lineWidth = Math.max(1.5, radius / 4);
  context.strokeStyle = ring;
  context.stroke();
  context.fillStyle = '#000';
  context.font = `700 ${Math.round(radius * 1.7)}px sans-serif`;
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.fillText(sign, x, y + radius * 0.08);
}

// An object by its name, with its id where that is short; long ids are those of programs, and stand in the title.
export const titleOf = (o) => (o.object_id.length <= 8 ? `${o.name || 'object'} (${o.object_id})` : o.name || o.object_id);

export function clock(minutes) {
  if (minutes === null || minutes === undefined) return '';
  if (minutes < 1) return 'less than a minute left';
  return minutes < 90 ? `${Math.round(minutes)} min left` : `${(minutes / 60).toFixed(1)} h left`;
}

export function showProgress(progress) {
  if (!progress || !progress.questions) return;
  const parts = [`${progress.answered.toLocaleString()} of ${progress.questions.toLocaleString()} points`,
    `${progress.objects_done} of ${progress.objects} objects`];
  if (progress.points_per_minute) parts.push(`${Math.round(progress.points_per_minute)} points/min`, clock(progress.minutes_left));
  if (progress.kappa !== null) parts.push(`κ ${progress.kappa.toFixed(2)} on ${progress.twice}`);
  $('#progress').textContent = parts.join(' · ');
}

// Keys of a view, except while somebody types; a key with Ctrl, Alt or Meta is the browser's.
export function onKeys(handle) {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $('#ask-name').open) return;
    if (event.target.matches('input:not([type=range]), textarea, select')) return;
    if (handle(event)) event.preventDefault();
  });
}
