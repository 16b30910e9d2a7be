/* A set of 64-bit hashes by open addressing. Two different members of one hash are taken for one; with a random key
 * and the 2^24 members a layer may have, that happens once in 10^5 worlds. */
#include "unpack.h"

#include <stdlib.h>

static uint64_t key[2];

void hash_seed(const uint64_t seed[2])
{
    key[0] = seed[0];
    key[1] = seed[1];
}

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

/* SipHash-1-3 (Aumasson, Bernstein 2012; the rounds that Rust and CPython use). */
static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t hash_bytes(uint64_t number, const void *bytes, size_t length)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                     key[1] ^ 0x7465646279746573};
    const unsigned char *at = bytes;
    uint64_t last = (uint64_t)(length + 8) << 56;
    v[3] ^= number, sip_round(v), v[0] ^= number;
    while (length >= 8) {
        uint64_t word = 0;
        for (int i = 0; i < 8; i++)
            word |= (uint64_t)at[i] << 8 * i;
        v[3] ^= word, sip_round(v), v[0] ^= word;
        at += 8, length -= 8;
    }
    for (size_t i = 0; i < length; i++)
        last |= (uint64_t)at[i] << 8 * i;
    v[3] ^= last, sip_round(v), v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v), sip_round(v), sip_round(v);
    uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return hash ? hash : 1; /* 0 marks an empty slot */
}

static bool insert(struct set *set, uint64_t hash)
{
    size_t i = hash & (set->capacity - 1);
    while (set->slots[i]) {
        if (set->slots[i] == hash)
            return false;
        i = (i + 1) & (set->capacity - 1);
    }
    set->slots[i] = hash;
    return true;
}

int set_add(struct set *set, uint64_t hash)
{
    if (set->count * 2 >= set->capacity) {
        struct set grown = {.capacity = set->capacity ? set->capacity * 2 : 256};
        grown.slots = calloc(grown.capacity, sizeof *grown.slots);
        if (!grown.slots)
            return -1;
        for (size_t i = 0; i < set->capacity; i++)
            if (set->slots[i])
                grown.count += insert(&grown, set->slots[i]);
        free(set->slots);
        *set = grown;
    }
    set->count += insert(set, hash);
    return 0;
}

bool set_has(const struct set *set, uint64_t hash)
{
    if (set->capacity == 0)
        return false;
    size_t i = hash & (set->capacity - 1);
    while (set->slots[i]) {
        if (set->slots[i] == hash)
            return true;
        i = (i + 1) & (set->capacity - 1);
    }
    return false;
}

void set_free(struct set *set)
{
    free(set->slots);
    *set = (struct set){0};
}
