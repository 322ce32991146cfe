// What the gateway tells of itself: /api/status, /api/history, /api/logs/NAME, /metrics.
// In: a request for one of them. Out: its answer, from the script that it is the business of. They
// share a place of nginx.conf, since each further one costs it 7 ms of its start and 2 MiB.
import logs from 'logs.js';
import metrics from 'metrics.js';
import records from 'records.js';

function answer(r) {
    switch (r.uri) {
    case '/api/status':
        return records.status(r);
    case '/api/history':
        return records.history(r);
    case '/metrics':
        return metrics.page(r);
    }
    return logs.tail(r);
}

export default {answer};
