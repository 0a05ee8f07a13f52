// Review: every object with its points, what two people said of the same one, and the export.
import { $, api, button, drawPoint, element, frame, showProgress, signIn, told } from './common.js';

const LABELS = { yes: 1, no: 0, unsure: -1 };
let rows = [];

function layout() {
  $('#main').append(element('div', { className: 'review' },
    element('section', { className: 'panel' }, element('h2', {}, 'Export'),
      element('div', { className: 'row' }, button('Own clips', 'E', () => exported('own'), { className: 'main', id: 'export-own' }),
        button('Point-VOS points', '', () => exported('point-vos'), { id: 'export-points' })),
      element('p', { id: 'exported', className: 'hint', ariaLive: 'polite' }, 'Written beside the database; a dataset is one command more.')),
    element('section', { className: 'panel' }, element('h2', {}, 'People'), element('div', { className: 'scroll', id: 'people' })),
    element('section', { className: 'panel' }, element('h2', {}, 'Objects'),
      element('p', {}, element('label', {}, 'Show ', element('select', { id: 'filter' },
        ...[['all', 'all objects'], ['differ', 'those on which two people differ'], ['empty', 'those without a point on them']].map(([value, text]) => element('option', { value }, text))))),
      element('div', { className: 'scroll', id: 'list' })),
    element('section', { className: 'panel', id: 'detail', hidden: true })));
  $('#filter').addEventListener('change', list);
}

async function exported(format) {
  const answer = await told(() => api('/api/export', { format }));
  if (!answer) return;
  const { totals } = answer;
  $('#exported').replaceChildren(`${totals.clips} clips, ${totals.objects} objects, ${totals.points} points written to `, element('code', {}, answer.file),
    '. Next: ', element('code', {}, answer.command), ...answer.problems.map((text) => element('div', {}, `Left out: ${text}`)));
  $('#exported').dataset.file = answer.file;
}

const cells = (tag, values) => element('tr', {}, ...values.map(([text, number]) => element(tag, number ? { className: 'number' } : {}, text)));

function people(annotators, progress) {
  const home = $('#people');
  if (!annotators.length) { home.replaceChildren(element('p', { className: 'soft' }, 'Nobody has answered yet.')); return; }
  const head = cells('th', [['Name'], ['Answers', 1], ['Objects', 1], ['Seconds an answer (median)', 1]]);
  const body = annotators.map((a) => cells('td', [[a.annotator], [String(a.answers), 1], [String(a.objects), 1], [a.seconds === null ? '' : a.seconds.toFixed(2), 1]]));
  const kappa = progress.kappa === null ? 'No point has two answers yet.' : `Cohen's kappa of two readings: ${progress.kappa.toFixed(2)}, on ${progress.twice} points.`;
  home.replaceChildren(element('table', {}, element('thead', {}, head), element('tbody', {}, ...body)), element('p', { className: 'hint' }, kappa));
}

function list() {
  const wanted = { all: () => true, differ: (o) => o.differ > 0, empty: (o) => !o.clicks && !o.answers.yes }[$('#filter').value];
  const head = cells('th', [['Clip'], ['Object'], ['Yes', 1], ['No', 1], ['Unsure', 1], ['Candidates', 1], ['Differ', 1], ['Clicks', 1]]);
  const body = rows.filter(wanted).map((o) => {
    const row = cells('td', [[o.video_id], [''], ...['yes', 'no', 'unsure'].map((name) => [String(o.answers[name] ?? 0), 1]), [String(o.candidates), 1], [String(o.differ), 1], [String(o.clicks), 1]]);
    row.children[1].append(button(`${o.name || 'object'} (${o.object_id})`, '', () => detail(o, row)));
    row.className = 'pick';
    return row;
  });
  $('#list').replaceChildren(element('table', {}, element('thead', {}, head), element('tbody', {}, ...body)));
  if (!body.length) $('#list').append(element('p', { className: 'soft' }, 'None.'));
}

async function detail(object, row) {
  const answer = await told(() => api(`/api/review/${object.object}`));
  if (!answer) return;
  for (const other of document.querySelectorAll('tr.pick')) other.setAttribute('aria-current', other === row);
  const home = $('#detail');
  home.hidden = false;
  const points = [...answer.points.map((p) => [p.frame, p.x, p.y, p.answers.map(([name]) => name)]), ...answer.clicks.map(([t, x, y, name]) => [t, x, y, [name]])];
  const frames = [...new Set(points.map((p) => p[0]))].sort((a, b) => a - b);
  const tiles = element('div', { className: 'tiles' });
  home.replaceChildren(element('h2', {}, `${object.name || 'object'} (${object.object_id}) in ${object.video_id}`),
    element('p', { className: 'legend' }, 'Green +: on the object. Red −: off it. Yellow ?: unsure. A thick ring: two people differ.'), tiles);
  if (!frames.length) tiles.append(element('p', { className: 'soft' }, 'It has no point yet.'));
  for (const t of frames) {
    const own = points.filter((p) => p[0] === t);
    const canvas = element('canvas');
    const on = own.filter((p) => p[3][0] === 'yes').length;
    tiles.append(element('figure', {}, canvas, element('figcaption', {}, `Frame ${t}: ${on} on, ${own.filter((p) => p[3][0] === 'no').length} off`)));
    const bitmap = await told(() => frame(object.clip, t));
    if (!bitmap) return;
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext('2d');
    context.drawImage(bitmap, 0, 0);
    const radius = Math.max(4, bitmap.height / 50);
    for (const [, x, y, names] of own) {
      const differ = new Set(names).size > 1;
      drawPoint(context, x + 0.5, y + 0.5, LABELS[names[0]], differ ? radius * 1.5 : radius, differ ? '#fff' : '#000');
    }
  }
  home.scrollIntoView({ behavior: 'smooth', block: 'nearest' });
}

layout();
await signIn();
const answer = await told(() => api('/api/review'));
if (answer) {
  rows = answer.objects;
  showProgress(answer.progress);
  people(answer.annotators, answer.progress);
  list();
}
document.addEventListener('keydown', (event) => {
  if (event.key === 'e' && !event.target.matches('input, select, textarea') && !event.ctrlKey && !event.metaKey) exported('own');
});
