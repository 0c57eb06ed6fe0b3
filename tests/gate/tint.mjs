// Every text through Tint, the compiler of Chrome: a real pipeline of Dawn's null back end for each, with the limits that
// every browser grants, the bindings declared as the crate declares them, and the pipeline constants set.
//
//     node tint.mjs FOLDER WEBGPU_MODULE PART PARTS
//
// Takes each PARTS-th line of FOLDER/list.jsonl from PART on, and writes the hashes that were accepted to
// FOLDER/tint.PART.accepted and what Tint said of the others to FOLDER/tint.PART.log.
import { createReadStream, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [folder, webgpu, part, parts] = process.argv.slice(2);
const { create } = await import(pathToFileURL(webgpu));
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const wanted = ['subgroups'].filter((name) => adapter.features.has(name));
const device = await adapter.requestDevice({ requiredFeatures: wanted });

// What is wrong with a text; undefined if nothing is.
async function fault(code, constants, readOnly) {
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code });
    const entries = readOnly.map((read, binding) => ({
        binding,
        visibility: 4, // GPUShaderStage.COMPUTE
        buffer: { type: read ? 'read-only-storage' : 'storage' },
    }));
    const layout = device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })] });
    device.createComputePipeline({ layout, compute: { module, entryPoint: 'main', constants } });
    return (await device.popErrorScope())?.message;
}

const accepted = [];
const log = [];
async function judge(name, constants, readOnly) {
    const message = await fault(readFileSync(`${folder}/tint/${name}.wgsl`, 'utf8'), constants, readOnly);
    // One text may come with several sets of constants, a pipeline each: `not-` says that one of them was refused.
    accepted.push(message === undefined ? name : `not-${name}`);
    if (message !== undefined) log.push(`${name}: ${message}`);
}

let number = 0;
for await (const text of createInterface({ input: createReadStream(`${folder}/list.jsonl`) })) {
    if (number++ % parts !== Number(part)) continue;
    const { files, constants, read_only: readOnly } = JSON.parse(text);
    if (files.tint) await judge(files.tint, constants, readOnly);
}
for (const planted of ['planted_barrier', 'planted_type']) {
    await judge(planted, {}, JSON.parse(readFileSync(`${folder}/planted.json`)));
}
writeFileSync(`${folder}/tint.${part}.accepted`, accepted.join('\n') + '\n');
writeFileSync(`${folder}/tint.${part}.log`, log.join('\n') + '\n');
process.exit(0); // Dawn's threads would keep node waiting
