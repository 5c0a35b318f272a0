// SPDX-License-Identifier: MIT
#include "m4client.h"

const char* m4_strerror(int code) {
    switch (code) {
        case M4_OK:
            return "no error";
        case M4_E_INVALID:
            return "invalid argument";
        case M4_E_NO_MEMORY:
            return "out of memory";
        case M4_E_SYSTEM:
            return "a system call failed";
        case M4_E_UNAVAILABLE:
            return "the service is not available";
        case M4_E_VERSION:
            return "no common protocol version";
        case M4_E_PROTOCOL:
            return "the peer broke the protocol";
        case M4_E_WOULD_BLOCK:
            return "nothing yet";
        case M4_E_TIMEOUT:
            return "the time limit passed";
        case M4_E_CANCELLED:
            return "the request was cancelled";
        case M4_E_BUSY:
            return "busy, try again later";
        case M4_E_QUOTA:
            return "the caller's quota is used up";
        case M4_E_CONTEXT_FULL:
            return "it does not fit the context";
        case M4_E_NOT_FOUND:
            return "no such session or request";
        case M4_E_TOO_LARGE:
            return "over a limit";
        case M4_E_PERMISSION:
            return "permission denied";
        case M4_E_VERIFY:
            return "the image failed verification";
        case M4_E_GPU_LOST:
            return "the device was lost";
        case M4_E_INTERNAL:
            return "internal error of the service";
        case M4_E_UNSUPPORTED:
            return "the image has no part that does this";
        case M4_E_ADAPTER:
            return "the adapter does not fit or is broken";
        default:
            return "unknown error";
    }
}

const char* m4_version(void) {
    return M4_VERSION;
}
