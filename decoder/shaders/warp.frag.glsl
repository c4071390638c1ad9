// Mixes REFERENCES references by their weights. A reference's fourth channel says where the person is; elsewhere the
// plate shows as far as it is trusted.
//
// NEED says what can happen in these triangles: 0: all of them is person; 1: the plate may show; 2: they may also lie
// beyond a reference's border, or in an open mouth that none shows, which is darkened.

uniform sampler2DArray u_references;
uniform sampler2D u_plate;  // RGB, trust: at the drawn size
uniform vec3 u_cavity;      // sRGB, 0 to 1

in vec2 v_place[REFERENCES];  // u, v
in float v_weight[REFERENCES];
flat in uint v_references;  // which they are, four bits each
#if NEED == 2
in float v_cavity;
#endif

out vec4 f_colour;

// Where a reference ends, it goes on as its own mirror image, ever slower: a strip of wall or cloth looks right
// where a streak does not, and no mirrored head comes in from above.
const float STRIP = 0.05;  // of the picture

vec2 within(vec2 uv) {
    vec2 under = max(-uv, 0.0), over = max(uv - 1.0, 0.0);
    return clamp(uv, 0.0, 1.0) + STRIP * under / (STRIP + under) - STRIP * over / (STRIP + over);
}

// A head is not continued beyond the border, only the background is; clothes are, at the bottom and low at the sides.
const float EDGE = 0.01;  // of the picture
const vec2 CLOTHES = vec2(0.7, 0.85);  // how far down they begin

float beyond(vec2 uv) {
    float side = max(-uv.x, uv.x - 1.0) * (1.0 - smoothstep(CLOTHES.x, CLOTHES.y, uv.y));
    return smoothstep(0.0, EDGE, max(side, -uv.y));
}

// A reference that ends before a place says little there where another one goes on.
const float LITTLE = 0.002;

float within_reach(vec2 uv) {
    vec2 out_by = max(-uv, uv - 1.0);
    return max(1.0 - smoothstep(-EDGE, 0.0, max(out_by.x, out_by.y)), LITTLE);
}

vec4 sampled(int i, vec2 uv) {
    return textureLod(u_references, vec3(uv, float((v_references >> uint(4 * i)) & 15u)), 0.0);
}

void main() {
#if NEED == 0 && REFERENCES == 1
    f_colour = vec4(sampled(0, v_place[0]).rgb, 1.0);
#elif NEED == 0
    vec3 colour = vec3(0.0);
    for (int i = 0; i < REFERENCES; ++i)
        colour += v_weight[i] * sampled(i, v_place[i]).rgb;
    f_colour = vec4(colour, 1.0);
#else
    // Sums over the references: all that they show and the weights, the person in it, and of that what is not to be
    // continued.
    vec4 whole = vec4(0.0);
    vec4 person = vec4(0.0), cut = vec4(0.0);
    for (int i = 0; i < REFERENCES; ++i) {
        vec2 uv = v_place[i];
        float weight = v_weight[i];
#if NEED == 2
        weight *= within_reach(uv);
        vec4 texel = sampled(i, within(uv));
#else
        vec4 texel = sampled(i, uv);
#endif
        vec4 there = weight * texel.a * vec4(texel.rgb, 1.0);
        whole += weight * vec4(texel.rgb, 1.0);
        person += there;
#if NEED == 2
        cut += beyond(uv) * there;
#endif
    }
    vec4 plate = texelFetch(u_plate, ivec2(gl_FragCoord.xy), 0);
    vec4 shown = mix(whole, person, plate.a) - cut;
    vec3 colour = (shown.rgb + (whole.a - shown.a) * plate.rgb) / max(whole.a, 0.000001);
#if NEED == 2
    colour = mix(colour, u_cavity, v_cavity);
#endif
    f_colour = vec4(colour, 1.0);
#endif
}
