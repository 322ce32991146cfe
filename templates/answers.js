// What the gateway says itself: JSON, and refusals in the shape of OpenAI's errors.
// In: a request, what is to be said. Out: the answer. It decides nothing.

function json(r, status, body) {
    r.headersOut['Content-Type'] = 'application/json';
    r.return(status, JSON.stringify(body) + '\n');
}

function fail(r, status, message, code, type) {
    json(r, status, {
        error: {
            message: message,
            type: type || (status >= 500 ? 'server_error' : 'invalid_request_error'),
            param: code === 'model_not_found' ? 'model' : null,
            code: code,
        },
    });
}

function unavailable(r, message) {
    fail(r, 503, message, 'model_not_available', 'unavailable_error');
}

function notFound(r) {
    fail(r, 404, `there is nothing at ${r.uri.slice(0, 200)}; see / for what is served here`,
         'not_found');
}

function tooLarge(r) {
    fail(r, 413, 'the body is too large to be routed by the model it names; send it to ' +
         '/api/MODEL/v1/... or to the port of the model, which take any size', 'body_too_large');
}

function broken(r) {
    fail(r, 500, 'the gateway failed on this request; its error log says why', 'gateway_error');
}

export default {json, fail, unavailable, notFound, tooLarge, broken};
