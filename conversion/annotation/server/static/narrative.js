// A clip's narratives: words to mark as nouns by a click, by dragging over several, or by keys; and the text to edit.
import { $, button, element } from './common.js';

export class Narrative {
  // `calls`: mark(position, start, end, object or null), write(position, text), select(object id), objects().
  constructor(calls) {
    this.calls = calls;
    this.open = null; // { position, start, end } of the words whose menu is shown
    this.editing = null; // position of the text that is being edited
  }

  render(home, narratives) {
    if (this.editing !== null && $('textarea', home)) return;
    this.home = home;
    this.narratives = narratives;
    const parts = narratives.map((narrative) => this.words(narrative));
    if (!narratives.length && this.editing === null) parts.push(element('p', { className: 'soft' }, 'None yet. Type or paste a sentence that tells what happens.'));
    if (this.editing !== null) parts.push(this.editor());
    else if (this.open) parts.push(this.menu());
    else parts.push(button(narratives.length ? 'Edit the text' : 'Write it', 'T', () => this.edit(), { id: 'edit' }));
    home.replaceChildren(...parts);
  }

  words(narrative) {
    const objects = this.calls.objects();
    const line = element('p', { className: 'words' });
    if (narrative.actor) line.append(element('small', {}, `${narrative.actor}: `));
    for (const piece of narrative.pieces) {
      if (piece.start === undefined) { line.append(piece.text); continue; }
      const noun = narrative.nouns.find((n) => n.start <= piece.start && piece.end <= n.end);
      const own = noun && objects.find((o) => o.object_id === noun.object_id);
      const word = element('button', { type: 'button', className: noun ? 'noun' : '' }, piece.text);
      Object.assign(word.dataset, { position: narrative.position, start: piece.start, end: piece.end });
      if (own) word.style.setProperty('--own', own.colour);
      if (noun) word.title = `${noun.object_id}${own?.name ? `: ${own.name}` : ''}`;
      if (this.open && narrative.position === this.open.position && piece.start >= this.open.start && piece.end <= this.open.end) word.classList.add('chosen');
      word.addEventListener('click', (event) => this.choose(narrative, piece, noun, event.shiftKey));
      line.append(word);
    }
    line.addEventListener('pointerup', () => this.dragged(narrative));
    return line;
  }

  choose(narrative, piece, noun, extend) {
    if (!getSelection().isCollapsed) return;
    if (extend && this.open && this.open.position === narrative.position) {
      this.open = { ...this.open, start: Math.min(this.open.start, piece.start), end: Math.max(this.open.end, piece.end) };
    } else {
      this.open = { position: narrative.position, start: noun?.start ?? piece.start, end: noun?.end ?? piece.end };
    }
    if (noun && !extend) this.calls.select(noun.object_id);
    this.show();
  }

  // Words that were dragged over with the mouse.
  dragged(narrative) {
    const selection = getSelection();
    if (selection.isCollapsed) return;
    const words = [...this.home.querySelectorAll('.words button')].filter((word) => Number(word.dataset.position) === narrative.position && selection.containsNode(word, true));
    if (!words.length) return;
    this.open = { position: narrative.position, start: Number(words[0].dataset.start), end: Number(words.at(-1).dataset.end) };
    selection.removeAllRanges();
    this.show();
  }

  show() {
    this.render(this.home, this.narratives);
    $('.menu button', this.home)?.focus();
  }

  menu() {
    const { position, start, end } = this.open;
    const narrative = this.narratives.find((n) => n.position === position);
    const here = narrative.nouns.filter((n) => n.start === start && n.end === end).map((n) => n.object_id);
    const close = () => { this.open = null; this.render(this.home, this.narratives); };
    const mark = (object) => { this.open = null; this.calls.mark(position, start, end, object); };
    const menu = element('div', { className: 'menu', role: 'group', ariaLabel: 'This noun means' });
    for (const o of this.calls.objects()) {
      menu.append(button(here.includes(o.object_id) ? `Unmark ${o.name || ''} (${o.object_id})` : `${o.name || 'object'} (${o.object_id})`, '', () => mark(o.object)));
    }
    if (!here.length) menu.prepend(button('A new object', '', () => mark(null), { className: 'main' }));
    menu.append(button('Close', 'Esc', close, { className: 'plain' }));
    menu.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
    return menu;
  }

  edit(position = this.narratives[0]?.position ?? 0) {
    this.open = null;
    this.editing = position;
    this.render(this.home, this.narratives);
    $('textarea', this.home)?.focus();
  }

  editor() {
    const narrative = this.narratives.find((n) => n.position === this.editing);
    const area = element('textarea', { value: narrative?.text ?? '', id: 'text', ariaLabel: 'Narrative', placeholder: 'A green parrot is playing with the other parrot.' });
    const end = () => { this.editing = null; this.render(this.home, this.narratives); };
    const save = async () => {
      const done = await this.calls.write(this.editing, area.value);
      if (done) { this.editing = null; this.home.replaceChildren(); this.render(this.home, done.narratives); }
    };
    area.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') end();
      if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); save(); }
    });
    return element('div', {}, area, element('p', { className: 'hint' }, '[noun](id) marks a noun. Words can be marked by clicking, too.'),
      element('div', { className: 'row' }, button('Save', 'Enter', save, { className: 'main', id: 'save' }), button('Cancel', 'Esc', end)));
  }
}
