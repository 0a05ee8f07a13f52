// The playground: a clip, a sentence with nouns marked by clicking, and masks that appear as the model makes them.
import { $, annotator, api, button, colour, COLOURS, element, frame, maskImage, onKeys, prefetch, say, told } from './common.js';

const WORD = /[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*/gu;
const state = { clips: [], clip: null, at: 0, marked: new Set(), nouns: [], masks: new Map(), running: null, playing: null };

function layout() {
  $('#main').append(
    element('div', { className: 'row', style: 'margin-bottom:.7rem' }, element('label', {}, 'Clip ', element('select', { id: 'clips' }))),
    element('div', { className: 'play' },
      element('section', {}, element('div', { className: 'stage' }, element('canvas', { id: 'picture' })),
        element('div', { className: 'scrub' }, button('Play', 'Space', play, { id: 'play' }),
          element('input', { type: 'range', id: 'frames', min: 0, value: 0, ariaLabel: 'Frame' }), element('output', { id: 'place' }))),
      element('aside', {}, element('div', { className: 'panel' }, element('h3', {}, 'Narrative'),
        element('textarea', { id: 'text', ariaLabel: 'Narrative', placeholder: 'A green parrot is playing with the other parrot.' }),
        element('p', { className: 'hint' }, 'Click on the nouns to be found:'), element('p', { className: 'words', id: 'words' }),
        element('div', { className: 'row' }, button('Ground', 'G', run, { id: 'run', className: 'main' })),
        element('progress', { id: 'bar', hidden: true, style: 'margin-top:.6rem' }), element('p', { className: 'hint', id: 'job' })),
      element('div', { className: 'panel', id: 'found', hidden: true }))));
  $('#clips').addEventListener('change', (event) => openClip(Number(event.target.value)));
  $('#frames').addEventListener('input', (event) => seek(Number(event.target.value)));
  $('#text').addEventListener('input', () => { state.marked.clear(); words(); });
}

const pieces = () => [...$('#text').value.matchAll(WORD)];

function words() {
  const text = $('#text').value;
  const nouns = [...state.marked].sort((a, b) => a - b);
  const line = $('#words');
  const parts = [];
  let last = 0;
  pieces().forEach((match, i) => {
    parts.push(text.slice(last, match.index));
    const word = element('button', { type: 'button', className: state.marked.has(i) ? 'noun' : '' }, match[0]);
    word.setAttribute('aria-pressed', state.marked.has(i));
    if (state.marked.has(i)) word.style.setProperty('--own', colour(nouns.indexOf(i)));
    word.addEventListener('click', () => {
      if (!state.marked.delete(i)) state.marked.add(i);
      words();
      line.querySelectorAll('button')[i].focus();
    });
    parts.push(word);
    last = match.index + match[0].length;
  });
  parts.push(text.slice(last));
  line.replaceChildren(...parts);
  $('#run').disabled = !state.marked.size || !state.clip;
}

// The sentence with its nouns in brackets; brackets of the text itself are escaped.
function marked() {
  const text = $('#text').value;
  const escape = (part) => part.replace(/[[\]\\]/g, '\\$&');
  let [out, last] = ['', 0];
  pieces().forEach((match, i) => {
    out += escape(text.slice(last, match.index));
    out += state.marked.has(i) ? `[${match[0]}]` : match[0];
    last = match.index + match[0].length;
  });
  return out + escape(text.slice(last));
}

async function openClip(clip) {
  const row = state.clips.find((c) => c.clip === clip);
  stop();
  Object.assign(state, { clip: row.reason ? null : row, at: 0, masks: new Map(), nouns: [] });
  $('#found').hidden = true;
  if (row.reason) { say(`${row.video_id} cannot be opened: ${row.reason}`); return; }
  const known = await told(() => api(`/api/clips/${clip}`));
  if (known?.narratives.length && !$('#text').value) $('#text').value = known.narratives[0].pieces.map((p) => p.text).join('');
  $('#frames').max = row.frames - 1;
  words();
  await seek(0);
}

let seeking = 0;
async function seek(t) {
  if (!state.clip) return;
  state.at = Math.max(0, Math.min(state.clip.frames - 1, t));
  $('#frames').value = state.at;
  $('#place').textContent = `${state.at + 1} of ${state.clip.frames}`;
  seeking += 1;
  const mine = seeking;
  const bitmap = await told(() => frame(state.clip.clip, state.at));
  if (mine !== seeking || !bitmap) return;
  state.bitmap = bitmap;
  draw();
  prefetch([1, 2, 3].map((d) => [state.clip.clip, state.at + d]).filter(([, i]) => i < state.clip.frames), 1);
}

function draw() {
  const { height, width } = state.clip;
  const canvas = $('#picture');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.drawImage(state.bitmap, 0, 0, width, height);
  const here = state.masks.get(state.at) ?? {};
  for (const [noun, runs] of Object.entries(here)) context.drawImage(maskImage(runs, width, height, COLOURS[noun % COLOURS.length], 0.45), 0, 0);
  canvas.dataset.masks = Object.keys(here).length;
}

async function run() {
  if (state.running) { state.running.abort(); return; }
  if (!state.marked.size || !state.clip) return;
  stop();
  say('');
  Object.assign(state, { masks: new Map(), nouns: [] });
  state.running = new AbortController();
  $('#run span').textContent = 'Stop';
  Object.assign($('#bar'), { hidden: false, max: state.clip.frames, value: 0 });
  $('#job').textContent = 'The model is loaded when it is first asked.';
  $('#job').dataset.state = 'running';
  const began = performance.now();
  let end = 'Stopped.';
  try {
    const response = await fetch(`/api/clips/${state.clip.clip}/ground`, { method: 'POST', signal: state.running.signal, body: JSON.stringify({ narrative: marked() }),
      headers: { 'content-type': 'application/json', 'x-annotator': encodeURIComponent(annotator()) } });
    if (!response.ok) throw new Error((await response.json()).error);
    for await (const line of lines(response.body)) take(line);
    end = `${state.clip.frames} frames in ${((performance.now() - began) / 1000).toFixed(1)} s.`;
  } catch (error) {
    if (error.name !== 'AbortError') { say(error.message); end = ''; }
  }
  state.running = null;
  $('#bar').hidden = true;
  $('#run span').textContent = 'Ground';
  $('#job').textContent = end;
  $('#job').dataset.state = 'ended';
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const whole = rest.split('\n');
    rest = whole.pop();
    for (const line of whole) yield JSON.parse(line);
  }
}

// One line of the stream: the nouns, or the masks of one noun in some frames.
function take(line) {
  if (line.error) throw new Error(line.error);
  if (line.nouns) {
    state.nouns = line.nouns.map((noun) => ({ noun, scores: [] }));
  } else if (line.masks) {
    for (const [t, runs] of Object.entries(line.masks)) state.masks.set(Number(t), { ...state.masks.get(Number(t)), [line.noun]: runs });
    line.scores.forEach((score, i) => { state.nouns[line.noun].scores[line.start + i] = score; });
    $('#bar').value = Math.max($('#bar').value, line.start + line.scores.length);
    $('#job').textContent = line.final ? 'Final masks.' : 'First masks; the best ones are known at the end of the clip.';
    if (line.masks[state.at]) draw();
  }
  found();
}

function found() {
  const home = $('#found');
  home.hidden = false;
  home.replaceChildren(element('h3', {}, 'Found'), element('ul', { className: 'objects' }, ...state.nouns.map((item, i) => {
    const swatch = element('i');
    swatch.style.background = colour(i);
    const seen = item.scores.filter((score) => score !== undefined);
    const mean = seen.length ? `score ${(seen.reduce((a, b) => a + b, 0) / seen.length).toFixed(2)}` : 'waiting';
    return element('li', {}, swatch, element('span', { className: 'grow' }, item.noun), element('small', {}, mean));
  })));
}

function stop() {
  clearTimeout(state.playing);
  state.playing = null;
  if ($('#play')) $('#play span').textContent = 'Play';
}

function play() {
  if (state.playing) { stop(); return; }
  $('#play span').textContent = 'Pause';
  const step = async () => {
    if (!state.clip) return;
    await seek((state.at + 1) % state.clip.frames);
    if (state.playing) state.playing = setTimeout(step, 80);
  };
  state.playing = setTimeout(step, 0);
}

layout();
onKeys((event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (steps) { seek(state.at + steps * (event.shiftKey ? 10 : 1)); return true; }
  if ((event.key === ' ' || event.key === 'Enter') && event.target.matches('button, a')) return false;
  const action = { ' ': play, g: run }[event.key];
  if (!action) return false;
  action();
  return true;
});
const project = await told(() => api('/api/project'));
if (project) {
  state.clips = project.clips;
  $('#clips').append(...project.clips.map((c) => element('option', { value: c.clip }, c.reason ? `${c.video_id} (does not open)` : c.video_id)));
  const first = project.clips.find((c) => !c.reason);
  if (first) { $('#clips').value = first.clip; await openClip(first.clip); } else say('There are no clips in this project.');
}
