// The closing table of the shader gate: texts by stage and form against compilers.
//
//     node table.mjs FOLDER [COMPILER=WHY_IT_CANNOT_BE_HAD]...
//
// Reads FOLDER/list.jsonl, and FOLDER/COLUMN*.accepted, the hashes that a compiler accepted. Every pair of text and
// compiler is accepted, refused, or left out for a reason that is listed here; anything else fails. Planted faults must
// have been refused.
import { createReadStream, existsSync, readFileSync, readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [folder, ...reasonsGiven] = process.argv.slice(2);
const without = Object.fromEntries(reasonsGiven.map((given) => [given.split('=', 1)[0], given.slice(given.indexOf('=') + 1)]));

// By naga in the same process; and by the compiler that judges what naga wrote.
const COLUMNS = {
    naga: { title: 'naga' },
    tint: { title: 'Tint', judge: true, planted: ['planted_barrier', 'planted_type'] },
    spirv_1_3: { title: 'SPIR-V 1.3', judge: true, planted: ['planted'] },
    spirv_1_6: { title: 'SPIR-V 1.6', judge: true, planted: ['planted'] },
    msl_2_4: { title: 'MSL 2.4' },
    msl_3_2: { title: 'MSL 3.2' },
    hlsl_6_0: { title: 'HLSL 6.0' },
    dxc_6_0: { title: 'DXC 6.0', judge: true, planted: ['planted'] },
    hlsl_6_6: { title: 'HLSL 6.6' },
    dxc_6_6: { title: 'DXC 6.6', judge: true, planted: ['planted'] },
    essl_310: { title: 'ESSL 3.10', judge: true, planted: ['planted'] },
    glsl_430: { title: 'GLSL 4.30', judge: true, planted: ['planted'] },
};

const REASONS = {
    'no-subgroups-on-gl': 'wgpu offers no subgroups on GL, so no text with subgroup operations goes there',
    'no-f16-on-gl': 'naga writes no f16 in GLSL',
    'no-64-bit-words-on-gl': 'wgpu offers no words of 64 bits on GL, so no text with them goes there',
    'no-64-bit-words-in-browsers': 'WebGPU has no words of 64 bits: such texts are for wgpu on its own',
    'same-program-as-read_write': 'the program of read_write, but for the access of its bindings: naga and Tint judge it',
    'cover-of-pairs': 'every pair of choices meets in a text that is judged; SHADER_GATE_FULL=1 judges every text',
    'one-in-eight': 'DXC takes seconds a text: with SHADER_GATE_COVER=1 it judges one in eight, by the hash of the text',
    ...Object.fromEntries(Object.entries(without).map(([compiler, why]) => [`no-${compiler}`, why])),
};

// The reason for which the judge of a column is not there.
const absent = (column) => {
    const compiler = column.split('_')[0].replace('essl', 'glsl');
    return COLUMNS[column].judge && without[compiler] ? `no-${compiler}` : undefined;
};

// Whether a text is one of those that a slow judge leaves out.
const leftOut = (column, file) =>
    column.startsWith('dxc') && process.env.SHADER_GATE_COVER && file >= '2' ? 'one-in-eight' : undefined;

const accepted = {};
for (const [column, { judge }] of Object.entries(COLUMNS)) {
    if (!judge) continue;
    const files = readdirSync(folder).filter((name) => name.startsWith(`${column}.`) && name.endsWith('.accepted'));
    accepted[column] = new Set(files.flatMap((name) => readFileSync(`${folder}/${name}`, 'utf8').split('\n')));
}

const table = new Map();
const reasons = {};
const failures = [];
let passed = 0;
let texts = 0;
for await (const text of createInterface({ input: createReadStream(`${folder}/list.jsonl`) })) {
    const line = JSON.parse(text);
    texts += 1;
    const key = `${line.stage} ${line.form}`;
    if (!table.has(key)) table.set(key, {});
    const row = table.get(key);
    for (const [column, { judge }] of Object.entries(COLUMNS)) {
        const cell = (row[column] ??= { passed: 0, failed: 0, holes: 0 });
        const file = line.files[column];
        const hole = line.holes[column] ?? absent(column) ?? (file && leftOut(column, file));
        if (hole !== undefined && REASONS[hole] !== undefined) {
            cell.holes += 1;
            reasons[hole] = (reasons[hole] ?? 0) + 1;
        } else if (file && (!judge || (accepted[column].has(file) && !accepted[column].has(`not-${file}`)))) {
            cell.passed += 1;
            passed += 1;
        } else {
            cell.failed += 1;
            const why = hole ? `left out for a reason that is not listed: ${hole}` : (line.refused[column] ?? `refused ${file}`);
            failures.push(`${COLUMNS[column].title}: ${line.form} ${line.what}: ${why}`);
        }
    }
}

// A compiler that takes a planted fault judges nothing.
for (const [column, { title, planted }] of Object.entries(COLUMNS)) {
    if (!planted || absent(column)) continue;
    for (const name of planted) {
        const ending = { tint: 'wgsl', spirv: 'spv', dxc: 'hlsl', essl: 'comp', glsl: 'comp' }[column.split('_')[0]];
        const there = existsSync(`${folder}/${column.replace('dxc', 'hlsl')}/${name}.${ending}`);
        if (there && !accepted[column].has(name)) passed += 1;
        else failures.push(`${title}: ${name} was ${there ? 'accepted' : 'never made'}`);
    }
}

const cell = ({ passed, failed, holes }) =>
    `${passed === 0 && holes > 0 ? '-' : passed}${failed > 0 ? `!${failed}` : ''}${passed > 0 && holes > 0 ? '+' : ''}`;
const titles = ['stage, form', ...Object.values(COLUMNS).map(({ title }) => title)];
const rows = [...table].map(([key, row]) => [key, ...Object.keys(COLUMNS).map((column) => cell(row[column]))]);
const widths = titles.map((title, at) => Math.max(title.length, ...rows.map((row) => row[at].length)));
const print = (row) => console.log(row.map((text, at) => (at ? text.padStart(widths[at]) : text.padEnd(widths[at]))).join('  '));
print(titles);
rows.forEach(print);
console.log(`\n${texts} texts. A number: so many accepted; +: others are left out; -: all are left out; !n: n refused.`);
for (const [reason, count] of Object.entries(reasons)) console.log(`left out ${count}: ${REASONS[reason]}`);
console.log('GLSL 4.30 is judged with GL_EXT_shader_integer_mix, which naga uses without saying so');
failures.slice(0, 40).forEach((failure) => console.log(`FAILED ${failure}`));
console.log(`${passed} passed, ${failures.length} failed`);
// Not `process.exit`, which cuts off what a pipe has not taken yet.
process.exitCode = failures.length === 0 && texts > 0 ? 0 : 1;
