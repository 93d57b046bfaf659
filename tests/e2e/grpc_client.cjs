// grpc_client.cjs HOST:PORT MODULES - @grpc/grpc-js against the test service of test_rpc.c.
const assert = require('assert');
const path = require('path');
const modules = process.argv[3];
const grpc = require(path.join(modules, '@grpc/grpc-js'));
const loader = require(path.join(modules, '@grpc/proto-loader'));
const definition = loader.loadSync('openledger/v1/services.proto', {includeDirs: ['proto'], longs: String});
const {Trainer} = grpc.loadPackageDefinition(definition).openledger.v1;
const client = new Trainer(process.argv[2], grpc.credentials.createInsecure());

const unary = (name, request) =>
    new Promise((resolve, reject) => client[name](request, (error, reply) => (error ? reject(error) : resolve(reply))));
const stream = (request) =>
    new Promise((resolve, reject) => {
        const all = [];
        const call = client.WatchJob(request);
        call.on('data', (message) => all.push(message));
        call.on('error', (error) => reject(Object.assign(error, {seen: all.length})));
        call.on('end', () => resolve(all));
    });

(async () => {
    const reply = await unary('SubmitJob', {signedTx: Buffer.from('abc')});
    assert.strictEqual(reply.tx.toString(), 'abc');
    await assert.rejects(unary('SubmitJob', {}), (error) =>
        error.code === grpc.status.INVALID_ARGUMENT && error.details.includes('100% of \u00fc'));
    const all = await stream({job: Buffer.from('500')});
    assert.strictEqual(all.length, 500);
    assert.strictEqual(all[499].step, 499);
    await assert.rejects(stream({job: Buffer.from('3!')}), (error) =>
        error.code === grpc.status.NOT_FOUND && error.details.includes('after 3'));
    console.log('all well');
    client.close();
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
