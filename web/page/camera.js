import {Problem} from './problem.js';

const REASONS = {
  NotAllowedError: 'The camera is not allowed. Allow it beside the address of the page, or choose a photograph.',
  NotFoundError: 'There is no camera. Choose a photograph instead.',
  NotReadableError: 'The camera is in use by another program. Close that, or choose a photograph.',
};

/**
 * Show the camera in a video element; on a phone, the camera at its back.
 * @param {HTMLVideoElement} video
 * @returns {Promise<() => void>} Stops the camera.
 */
export async function startCamera(video) {
  if (!navigator.mediaDevices) {
    throw new Problem('This browser gives no camera to this page: it wants https. Choose a photograph instead.');
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    throw new Problem(REASONS[error.name] ?? `The camera did not start (${error.name}). Choose a photograph instead.`);
  }
  return () => {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
}
