// SPDX-License-Identifier: MIT
// The encoders' peer in the bench: ONNX Runtime on the CPU.
//
//   node peer_onnx.mjs MODULE MODEL THREADS     orders on standard input
//
// Orders are lines of JSON, each answered by one, as m4_bench answers. Times are in
// microseconds; CPU time is this process's. Each picture is another.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

const [modulePath, modelPath, threadCount] = process.argv.slice(2);
const PICTURE = [3, 224, 224];
const FLOATS = PICTURE.reduce((a, b) => a * b);

function answer(value) {
	process.stdout.write(JSON.stringify(value) + "\n");
}

function fail(error) {
	answer({ error: String(error?.message ?? error) });
	process.exit(1);
}
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);

const require = createRequire(import.meta.url);
const onnx = require(modulePath);
const threads = Number(threadCount);
const session = await onnx.InferenceSession.create(modelPath, {
	executionProviders: ["cpu"],
	intraOpNumThreads: threads,
	interOpNumThreads: 1,
	graphOptimizationLevel: "all",
});

async function encode({ count }) {
	const data = Float32Array.from({ length: count * FLOATS }, () => Math.random() * 2 - 1);
	const pictures = new onnx.Tensor("float32", data, [count, ...PICTURE]);
	const cpuBefore = process.cpuUsage();
	const before = process.hrtime.bigint();
	const results = await session.run({ pictures });
	const wall = Number(process.hrtime.bigint() - before) / 1e3;
	const cpu = process.cpuUsage(cpuBefore);
	if (!results.scores.data.every(Number.isFinite))
		throw new Error("a score is no number");
	return { wall_us: wall, cpu_us: cpu.user + cpu.system, tokens: count };
}

async function info() {
	const { version } = require(join(dirname(modulePath), "../package.json"));
	return { version, threads };
}

const orders = { encode, info };
for await (const line of createInterface({ input: process.stdin })) {
	const order = JSON.parse(line);
	if (!orders[order.order])
		fail(`no order '${order.order}'`);
	answer(await orders[order.order](order));
}
process.exit(0);
