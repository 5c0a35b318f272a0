// SPDX-License-Identifier: MIT
// The peer's side of the bench: llama.cpp through node-llama-cpp.
//
//   node peer.mjs MODULE GGUF vulkan|cpu THREADS         orders on standard input
//   node peer.mjs MODULE GGUF vulkan|cpu THREADS ID...   first token, then wait
//
// Orders are lines of JSON, each answered by one: the same as m4_bench's.
// Times are in microseconds; CPU time is this process's.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modulePath, modelPath, backend, threadCount, ...firstIds] = process.argv.slice(2);
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(modulePath));

function answer(value) {
	process.stdout.write(JSON.stringify(value) + "\n");
}

function fail(error) {
	answer({ error: String(error?.message ?? error) });
	process.exit(1);
}
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);

const log = [];
const vulkan = backend === "vulkan";
// By itself it takes at least four, which on fewer cores wait for one another,
// spinning.
const threads = Number(threadCount);
const llama = await getLlama({
	maxThreads: threads,
	gpu: vulkan ? "vulkan" : false,
	build: "never",
	progressLogs: false,
	logLevel: LlamaLogLevel.debug,
	logger: (level, message) => log.push(message.trim()),
});
const model = await llama.loadModel({ modelPath, gpuLayers: vulkan ? "max" : 0 });

// llama.cpp leaves out Vulkan devices that are CPUs unless told otherwise, and
// then computes on its CPU backend under the name of Vulkan. Its log tells.
const placed = (device) =>
	log.filter((line) => line.startsWith("load_tensors: layer") && line.includes(`device ${device}`));
const onDevice = placed("Vulkan");
const onCpu = placed("CPU");
if (vulkan && (llama.gpu !== "vulkan" || onDevice.length === 0 || onCpu.length !== 0))
	fail("llama.cpp did not put the layers on a Vulkan device: is GGML_VK_VISIBLE_DEVICES=0 set?");

let context = null;
let lanes = [];

function timed(tokens, before, cpuBefore, ids) {
	const cpu = process.cpuUsage(cpuBefore);
	const wall = Number(process.hrtime.bigint() - before) / 1e3;
	return { wall_us: wall, cpu_us: cpu.user + cpu.system, tokens, ids };
}

// One token of every lane, evaluated as one batch.
async function step() {
	const results = await Promise.all(lanes.map((lane) => lane.next()));
	if (results.some((result) => result.done))
		throw new Error("a sequence ended early");
	return results.map((result) => result.value);
}

async function prompt({ sessions, ids }) {
	await context?.dispose();
	context = await model.createContext({
		sequences: sessions,
		contextSize: ids.length + 256,
		threads: { ideal: threads, min: threads },
	});
	lanes = [];
	for (let i = 0; i < sessions; ++i)
		lanes.push(context.getSequence().evaluate(ids, { temperature: 0, yieldEogToken: true }));
	const cpuBefore = process.cpuUsage();
	const before = process.hrtime.bigint();
	const first = await step();
	return timed(ids.length * sessions, before, cpuBefore, [first[0]]);
}

async function generate({ count }) {
	const ids = [];
	const cpuBefore = process.cpuUsage();
	const before = process.hrtime.bigint();
	for (let i = 0; i < count; ++i)
		ids.push((await step())[0]);
	return timed(count * lanes.length, before, cpuBefore, ids);
}

// Bytes of the KV cache, as llama.cpp logged them last.
function kvBytes() {
	const sizes = log.map((line) => /KV buffer size = +([\d.]+) MiB/.exec(line)).filter(Boolean);
	return sizes.length ? Number(sizes.at(-1)[1]) * 2 ** 20 : 0;
}

async function info() {
	return {
		backend: llama.gpu === false ? "cpu" : llama.gpu,
		devices: llama.gpu === false ? [] : await llama.getGpuDeviceNames(),
		layers_on_device: onDevice.length,
		threads: context?.currentThreads ?? threads,
		release: llama.llamaCppRelease.release,
		system: llama.systemInfo,
	};
}

if (firstIds.length !== 0) {
	const result = await prompt({ sessions: 1, ids: firstIds.map(Number) });
	answer({ ids: result.ids, kv_bytes: kvBytes() });
}
const orders = { prompt, generate, info };
for await (const line of createInterface({ input: process.stdin })) {
	const order = JSON.parse(line);
	if (!orders[order.order])
		fail(`no order '${order.order}'`);
	answer(await orders[order.order](order));
}
process.exit(0);
